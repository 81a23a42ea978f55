/** Where nodes stand: layers upward, tokens across. Pure; world units, y downward as on a canvas. */
import type { PictureNode } from "./model";

export interface Band {
  /** Layer of a row, position of a column. */
  at: number;
  start: number;
  size: number;
}

export interface Layout {
  x: Float64Array;
  y: Float64Array;
  /** Bottom row first. */
  rows: Band[];
  columns: Band[];
  width: number;
  height: number;
}

/** Distance between neighbours in one cell. */
export const SLOT = 15;

export interface Spacing {
  /** Distances between neighbours in one line, and between lines. */
  x: number;
  y: number;
  /** A cell of more nodes than this goes on in a further line; the wider ones are for large graphs. */
  slots: readonly number[];
}

export const DOTS: Spacing = { x: SLOT, y: SLOT, slots: [10, 14, 20, 28, 40, 56] };
/** Room for a name beside each node. */
export const NAMED: Spacing = { x: 100, y: 22, slots: [2, 3, 4, 6, 10] };

const COLUMN_PAD = 14;
const MIN_COLUMN = 54;
const EMPTY_ROW = 7;
const MIN_ROW = 14;
/** Rows without features, most often errors alone, are this much lower. */
const LOW = 0.55;
const MAX_ROW = 64;

const TYPE_ORDER: Record<PictureNode["type"], number> = { token: 0, position: 1, group: 2, feature: 3, error: 4, bias: 5, logit: 6 };

/**
 * A cell is a (layer, position); in it nodes stand side by side: features by influence, then errors, then biases.
 * Rows take the height that fills `aspect` = width / height. Nodes that are not among `placed` stand nowhere (NaN).
 */
export function layoutGraph(
  nodes: readonly PictureNode[], nTokens: number, nLayers: number, aspect: number, placed?: Uint8Array, spacing: Spacing = DOTS,
): Layout {
  let layout: Layout | undefined;
  for (const slots of spacing.slots) {
    layout = layoutWith(slots, spacing, nodes, nTokens, nLayers, aspect, placed);
    if (layout.height <= 1.01 * (layout.width / aspect)) break;
  }
  if (!layout) throw new Error("a spacing has at least one number of slots");
  return layout;
}

function layoutWith(
  slots: number, spacing: Spacing, nodes: readonly PictureNode[], nTokens: number, nLayers: number, aspect: number, placed?: Uint8Array,
): Layout {
  const cells = new Map<string, number[]>();
  nodes.forEach((node, row) => {
    if (placed?.[row] === 0) return;
    const key = `${clamp(node.layer, -1, nLayers)}/${clamp(node.position, 0, nTokens - 1)}`;
    const cell = cells.get(key);
    if (cell) cell.push(row);
    else cells.set(key, [row]);
  });
  const slotsAt = new Array<number>(nTokens).fill(0);
  const linesAt = new Map<number, number>();
  for (const [key, cell] of cells) {
    const [layer = 0, position = 0] = key.split("/").map(Number);
    cell.sort((a, b) => compare(nodes[a], nodes[b]));
    slotsAt[position] = Math.max(slotsAt[position] ?? 0, Math.min(slots, cell.length));
    linesAt.set(layer, Math.max(linesAt.get(layer) ?? 0, Math.ceil(cell.length / slots)));
  }

  const columns: Band[] = [];
  let width = 0;
  for (let position = 0; position < nTokens; position += 1) {
    const size = Math.max(MIN_COLUMN, (slotsAt[position] ?? 0) * spacing.x + COLUMN_PAD);
    columns.push({ at: position, start: width, size });
    width += size;
  }

  const withFeatures = new Set(nodes.filter(({ type }) => type === "feature" || type === "group").map((node) => node.layer));
  const rows = stack(nLayers, linesAt, spacing.y, (layer) => (withFeatures.has(layer) ? 1 : LOW), width / aspect);
  const height = rows.reduce((sum, row) => sum + row.size, 0);
  const x = new Float64Array(nodes.length).fill(NaN);
  const y = new Float64Array(nodes.length).fill(NaN);
  for (const [key, cell] of cells) {
    const [layer = 0, position = 0] = key.split("/").map(Number);
    const band = rows[layer + 1];
    const column = columns[position];
    if (!band || !column) continue;
    const lines = Math.ceil(cell.length / slots);
    cell.forEach((row, i) => {
      const line = Math.floor(i / slots);
      const inLine = Math.min(slots, cell.length - line * slots);
      x[row] = column.start + column.size / 2 + ((i % slots) - (inLine - 1) / 2) * spacing.x;
      y[row] = band.start + band.size / 2 + ((lines - 1) / 2 - line) * spacing.y;
    });
  }
  return { x, y, rows, columns, width, height };
}

/** Rows from the embedding at the bottom to the logits at the top; rows without nodes are thin. */
function stack(nLayers: number, linesAt: ReadonlyMap<number, number>, line: number, weight: (layer: number) => number, wanted: number): Band[] {
  const layers = Array.from({ length: nLayers + 2 }, (_, i) => i - 1);
  const full = layers.filter((layer) => linesAt.has(layer));
  const extra = [...linesAt.values()].reduce((sum, lines) => sum + (lines - 1) * line, 0);
  const free = wanted - extra - (layers.length - full.length) * EMPTY_ROW;
  const unit = clamp(free / full.reduce((sum, layer) => sum + weight(layer), 1e-9), MIN_ROW / LOW, MAX_ROW);
  const sizes = layers.map((layer) => {
    const lines = linesAt.get(layer);
    return lines === undefined ? EMPTY_ROW : unit * weight(layer) + (lines - 1) * line;
  });
  let bottom = sizes.reduce((sum, height) => sum + height, 0);
  return layers.map((layer, i) => {
    const height = sizes[i] ?? 0;
    bottom -= height;
    return { at: layer, start: bottom, size: height };
  });
}

function compare(a: PictureNode | undefined, b: PictureNode | undefined): number {
  if (!a || !b) return 0;
  return TYPE_ORDER[a.type] - TYPE_ORDER[b.type] || b.influence - a.influence || a.id - b.id;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
