import { describe, expect, test } from "vitest";

import { DOTS, layoutGraph, NAMED, SLOT } from "./layout";
import { node, randomNodes } from "./sample";

describe.each([
  [30, 4, 3, 1.6],
  [371, 14, 30, 1.6],
  [5000, 14, 30, 1.6],
  [400, 1, 12, 0.5],
  [300, 200, 4, 2.4],
])("%i nodes, %i tokens, %i layers", (n, nTokens, nLayers, aspect) => {
  const nodes = randomNodes(n, nTokens, nLayers, n);
  const layout = layoutGraph(nodes, nTokens, nLayers, aspect);

  test("each node stands inside its layer's row and its token's column", () => {
    nodes.forEach((item, row) => {
      const band = layout.rows[item.layer + 1];
      const column = layout.columns[item.position];
      expect(band?.at).toBe(item.layer);
      expect(column?.at).toBe(item.position);
      expect(layout.y[row]).toBeGreaterThan(band?.start ?? Infinity);
      expect(layout.y[row]).toBeLessThan((band?.start ?? 0) + (band?.size ?? 0));
      expect(layout.x[row]).toBeGreaterThan(column?.start ?? Infinity);
      expect(layout.x[row]).toBeLessThan((column?.start ?? 0) + (column?.size ?? 0));
    });
  });

  test("no two nodes stand closer than a slot", () => {
    const places = nodes.map((_, row) => [layout.x[row] ?? 0, layout.y[row] ?? 0] as const).sort((a, b) => a[0] - b[0]);
    let closest = Infinity;
    places.forEach(([x, y], i) => {
      for (let j = i + 1; j < places.length && (places[j]?.[0] ?? 0) - x < SLOT; j += 1) {
        closest = Math.min(closest, Math.hypot((places[j]?.[0] ?? 0) - x, (places[j]?.[1] ?? 0) - y));
      }
    });
    expect(closest).toBeGreaterThan(SLOT * 0.5);
  });

  test("layers go upward and fill the height, tokens go right and fill the width", () => {
    const bottom = layout.rows[0];
    expect((bottom?.start ?? 0) + (bottom?.size ?? 0)).toBeCloseTo(layout.height);
    for (let i = 1; i < layout.rows.length; i += 1) {
      const [below, above] = [layout.rows[i - 1], layout.rows[i]];
      expect((above?.start ?? 0) + (above?.size ?? 0)).toBeCloseTo(below?.start ?? NaN);
    }
    expect(layout.rows.at(-1)?.start).toBeCloseTo(0);
    expect(layout.columns.reduce((sum, column) => sum + column.size, 0)).toBeCloseTo(layout.width);
  });
});

test("in a cell features come first, the most influential at the left", () => {
  const nodes = [node(1, "error", 0, 0, 0.9), node(2, "feature", 0, 0, 0.1), node(3, "feature", 0, 0, 0.5), node(4, "bias", 0, 0, 1)];
  const { x } = layoutGraph(nodes, 1, 1, 1);
  expect([...nodes.keys()].sort((a, b) => (x[a] ?? 0) - (x[b] ?? 0)).map((row) => nodes[row]?.id)).toEqual([3, 2, 1, 4]);
});

test("a node beyond the prompt or the layers is drawn at the border rather than lost", () => {
  const layout = layoutGraph([node(1, "feature", 9, 7)], 2, 3, 1);
  expect(Number.isFinite(layout.x[0])).toBe(true);
  expect(layout.x[0]).toBeLessThan(layout.width);
  expect(layout.y[0]).toBeLessThan(layout.height);
});

test("only what is placed stands somewhere, with room for its name", () => {
  const nodes = randomNodes(200, 5, 6, 4);
  const placed = Uint8Array.from(nodes, (_, row) => Number(row % 7 === 0));
  const { x, y } = layoutGraph(nodes, 5, 6, 1.6, placed, NAMED);
  const rows = [...nodes.keys()].filter((row) => placed[row]);
  for (const row of nodes.keys()) expect(Number.isFinite(x[row]) && Number.isFinite(y[row])).toBe(placed[row] === 1);
  for (const a of rows) {
    for (const b of rows) {
      if (a < b) expect(Math.abs((x[a] ?? 0) - (x[b] ?? 0)) >= DOTS.x * 3 || Math.abs((y[a] ?? 0) - (y[b] ?? 0)) >= DOTS.y).toBe(true);
    }
  }
});
