import { expect, test } from "vitest";

import { random } from "../graph/sample";
import { thin } from "./thin";

function thinned(...line: [number[], (number | null)[], number, number]): number[] {
  const kept: number[] = [];
  thin(...line, (i) => kept.push(i));
  return kept;
}

test("of each column the lowest and the highest point stay, in their order, and nothing else", () => {
  const next = random(3);
  for (let turn = 0; turn < 200; turn += 1) {
    const n = 1 + Math.floor(next() * 60);
    const columns = Array.from({ length: n }, () => Math.floor(next() * 12)).sort((a, b) => a - b);
    const values = columns.map(() => (next() < 0.2 ? null : Math.floor(next() * 9)));
    const from = Math.floor(next() * n);
    const to = from + Math.floor(next() * (n - from));
    const kept = thinned(columns, values, from, to);
    expect(kept).toEqual([...new Set(kept)].sort((a, b) => a - b));
    for (const column of new Set(columns.slice(from, to + 1))) {
      const within = (i: number) => i >= from && i <= to && columns[i] === column && values[i] !== null;
      const there = columns.map((_, i) => i).filter(within).map((i) => values[i] ?? NaN);
      const drawn = kept.filter(within).map((i) => values[i] ?? NaN);
      expect(drawn.length).toBeLessThanOrEqual(2);
      expect([Math.min(...drawn), Math.max(...drawn)]).toEqual([Math.min(...there), Math.max(...there)]);
    }
  }
});

test("a line with no more points than columns stays as it is", () => {
  expect(thinned([0, 1, 2, 3], [5, null, 7, 7], 0, 3)).toEqual([0, 2, 3]);
});
