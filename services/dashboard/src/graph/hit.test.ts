import { expect, test } from "vitest";

import { HitGrid } from "./hit";
import { random } from "./sample";

test("finds the node that a search through all of them finds", () => {
  const next = random(7);
  const x = Float64Array.from({ length: 2000 }, () => next() * 900 - 100);
  const y = Float64Array.from({ length: 2000 }, () => next() * 500 - 50);
  const grid = new HitGrid({ x, y });
  let hits = 0;
  for (let trial = 0; trial < 500; trial += 1) {
    const [px, py, reach] = [next() * 1000 - 150, next() * 600 - 100, next() * 60];
    const distances = [...x].map((nx, row) => Math.hypot(nx - px, (y[row] ?? 0) - py));
    const closest = Math.min(...distances);
    const found = grid.nearest(px, py, reach);
    if (closest > reach) expect(found).toBeNull();
    else expect(distances[found ?? -1]).toBe(closest);
    if (found !== null) hits += 1;
  }
  expect(hits).toBeGreaterThan(50);
});
