/** Which node is nearest to a point: a uniform grid, so that the cost does not grow with the graph. */
import type { Layout } from "./layout";

const CELL = 26;

export class HitGrid {
  private readonly cells = new Map<string, number[]>();

  constructor(private readonly layout: Pick<Layout, "x" | "y">) {
    for (let row = 0; row < layout.x.length; row += 1) {
      const key = this.key(this.cell(layout.x[row] ?? 0), this.cell(layout.y[row] ?? 0));
      const cell = this.cells.get(key);
      if (cell) cell.push(row);
      else this.cells.set(key, [row]);
    }
  }

  /** The nearest node within `reach` world units of (x, y), or null; `among` has 1 for those that count. */
  nearest(x: number, y: number, reach: number, among?: Uint8Array): number | null {
    let best: number | null = null;
    let bestDistance = reach;
    for (let i = this.cell(x - reach); i <= this.cell(x + reach); i += 1) {
      for (let j = this.cell(y - reach); j <= this.cell(y + reach); j += 1) {
        for (const row of this.cells.get(this.key(i, j)) ?? []) {
          if (among?.[row] === 0) continue;
          const distance = Math.hypot((this.layout.x[row] ?? 0) - x, (this.layout.y[row] ?? 0) - y);
          if (distance <= bestDistance) {
            best = row;
            bestDistance = distance;
          }
        }
      }
    }
    return best;
  }

  private cell(value: number): number {
    return Math.floor(value / CELL);
  }

  private key(i: number, j: number): string {
    return `${i},${j}`;
  }
}
