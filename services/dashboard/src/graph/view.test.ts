import { expect, test } from "vitest";

import { fit, MARGIN, pan, reveal, toWorld, zoomAt } from "./view";

const screen = { width: 900, height: 600 };

test("fitting shows the whole world inside the margins", () => {
  for (const world of [{ width: 400, height: 900 }, { width: 4000, height: 300 }, { width: 10, height: 10 }]) {
    const view = fit(world, screen);
    expect(view.x).toBeGreaterThanOrEqual(MARGIN.left - 1e-9);
    expect(view.y).toBeGreaterThanOrEqual(MARGIN.top - 1e-9);
    expect(view.x + view.k * world.width).toBeLessThanOrEqual(screen.width - MARGIN.right + 1e-9);
    expect(view.y + view.k * world.height).toBeLessThanOrEqual(screen.height - MARGIN.bottom + 1e-9);
  }
});

test("zooming keeps the point under the pointer", () => {
  const view = { k: 1.3, x: 40, y: -20 };
  const before = toWorld(view, 321, 123);
  for (const factor of [1.7, 0.4, 1e9, 1e-9]) {
    const after = toWorld(zoomAt(view, factor, 321, 123), 321, 123);
    expect(after.x).toBeCloseTo(before.x, 6);
    expect(after.y).toBeCloseTo(before.y, 6);
  }
});

test("revealing moves only what is needed", () => {
  const view = fit({ width: 400, height: 300 }, screen);
  expect(reveal(view, 200, 150, screen)).toEqual(view);
  const away = pan(view, -5000, 900);
  const back = reveal(away, 200, 150, screen);
  const at = { x: 200 * back.k + back.x, y: 150 * back.k + back.y };
  expect(at.x).toBeGreaterThanOrEqual(MARGIN.left);
  expect(at.y).toBeLessThanOrEqual(screen.height - MARGIN.bottom);
});
