import type { Layout } from "./layout";
import { logitNames, type Graph, type PictureNode } from "./model";
import type { Palette } from "./palette";
import type { Shown } from "./prune";
import { shape } from "./shapes";
import type { Size, View } from "./view";

export interface Scene {
  graph: Graph;
  layout: Layout;
  shown: Shown;
  palette: Palette;
  view: View;
  size: Size;
}

type Context = CanvasRenderingContext2D;

/** Beyond this many edges they are straight: curves would cost more than a frame. */
const CURVED = 5000;
const LEVELS = 5;
/** Leaning names closer than this would cover each other; the likelier one stays. */
const NAME_ROOM = 11;
const NAME_WIDTH = 130;
const NAME_HEIGHT = 13;

/** Edges by the influence they carry. One path for each sign and strength, so 50,000 edges are ten strokes. */
export function drawEdges(ctx: Context, scene: Scene, chosen: Int32Array, curved = chosen.length <= CURVED): void {
  const { edges } = scene.graph;
  const top = Math.max(edges.flow[0] ?? 0, 1e-12);
  const paths = new Map<number, Path2D>();
  for (const e of chosen) {
    // Strength on a scale of decades: flows fall off over several.
    const decades = Math.log10((edges.flow[e] ?? 0) / top + 1e-9);
    const level = Math.max(0, Math.min(LEVELS - 1, Math.floor(LEVELS + decades * 1.6)));
    const key = (edges.weight[e] ?? 0) < 0 ? level : level + LEVELS;
    let path = paths.get(key);
    if (!path) paths.set(key, (path = new Path2D()));
    trace(path, scene, e, curved);
  }
  for (let level = 0; level < LEVELS; level += 1) {
    for (const [key, colour] of [[level, scene.palette.negative], [level + LEVELS, scene.palette.positive]] as const) {
      const path = paths.get(key);
      if (!path) continue;
      ctx.strokeStyle = colour;
      ctx.globalAlpha = 0.1 + 0.13 * level;
      ctx.lineWidth = 0.6 + 0.35 * level;
      ctx.stroke(path);
    }
  }
  ctx.globalAlpha = 1;
}

/** Some edges, each as strong as its share of its target. */
export function drawChosenEdges(ctx: Context, scene: Scene, chosen: Iterable<number>): void {
  const { edges } = scene.graph;
  for (const e of chosen) {
    const share = edges.share[e] ?? 0;
    const path = new Path2D();
    trace(path, scene, e, true);
    ctx.strokeStyle = (edges.weight[e] ?? 0) < 0 ? scene.palette.negative : scene.palette.positive;
    ctx.globalAlpha = Math.min(1, 0.16 + 1.6 * Math.sqrt(share));
    ctx.lineWidth = 0.8 + 4 * Math.sqrt(share);
    ctx.stroke(path);
  }
  ctx.globalAlpha = 1;
}

/** The nodes shown, the more influential the stronger; or some of them, all strong. */
export function drawNodes(ctx: Context, scene: Scene, rows?: Iterable<number>): void {
  const { graph, palette } = scene;
  const reach = 12;
  for (const row of rows ?? graph.nodes.keys()) {
    const node = graph.nodes[row];
    if (!node || !scene.shown.nodes[row]) continue;
    const { x, y } = screen(scene, row);
    if (x < -reach || y < -reach || x > scene.size.width + reach || y > scene.size.height + reach) continue;
    ctx.globalAlpha = rows ? 1 : 0.4 + 0.6 * Math.min(1, Math.sqrt(node.influence) * 3.5);
    ctx.fillStyle = node.type === "feature" || node.type === "group" ? palette.feature : node.type === "error" ? palette.error : node.type === "bias" ? palette.dim : palette.ink;
    ctx.beginPath();
    shape(ctx, node.type, x, y, radius(scene, row));
    ctx.fill();
    // A rim of the ground keeps neighbours and edges apart.
    ctx.globalAlpha = 1;
    ctx.strokeStyle = palette.surface;
    ctx.lineWidth = 1;
    ctx.stroke();
  }
}

export function drawRing(ctx: Context, scene: Scene, row: number, colour = scene.palette.thread, width = 2): void {
  const { x, y } = screen(scene, row);
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  ctx.arc(x, y, radius(scene, row) + 4, 0, 2 * Math.PI);
  ctx.stroke();
}

/** What the logits are, above them; leaning, since they stand close. */
export function drawLogitNames(ctx: Context, scene: Scene): void {
  const { graph, palette } = scene;
  ctx.font = `11px ${palette.font}`;
  ctx.fillStyle = palette.ink;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  const names = logitNames(graph);
  const logits = [...graph.nodes.keys()].filter((row) => graph.nodes[row]?.type === "logit" && scene.shown.nodes[row]);
  logits.sort((a, b) => (graph.nodes[b]?.probability ?? 0) - (graph.nodes[a]?.probability ?? 0));
  const taken: number[] = [];
  for (const row of logits) {
    const node = graph.nodes[row];
    const { x, y } = screen(scene, row);
    if (!node || taken.some((other) => Math.abs(other - x) < NAME_ROOM)) continue;
    taken.push(x);
    ctx.save();
    ctx.translate(x, y - radius(scene, row) - 4);
    ctx.rotate(-Math.PI / 4);
    ctx.globalAlpha = Math.min(1, 0.45 + (node.probability ?? 1));
    ctx.fillText(names.get(node.id) ?? node.label, 2, 0);
    ctx.restore();
  }
}

/** Names beside nodes, the most influential first; one that would cover another is left out. */
export function drawNames(ctx: Context, scene: Scene, rows: Iterable<number>): void {
  const { graph, palette } = scene;
  ctx.font = `11px ${palette.font}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.lineJoin = "round";
  const named = [...rows].filter((row) => scene.shown.nodes[row] && !isNamedElsewhere(graph.nodes[row]?.type));
  named.sort((a, b) => (graph.nodes[b]?.influence ?? 0) - (graph.nodes[a]?.influence ?? 0));
  const taken: { x: number; y: number; width: number }[] = [];
  for (const row of named) {
    const at = screen(scene, row);
    const text = shorten(ctx, graph.nodes[row]?.label ?? "", NAME_WIDTH);
    const [x, y, width] = [at.x + radius(scene, row) + 5, at.y, ctx.measureText(text).width];
    if (taken.some((other) => Math.abs(other.y - y) < NAME_HEIGHT && x < other.x + other.width + 4 && other.x < x + width + 4)) continue;
    taken.push({ x, y, width });
    ctx.strokeStyle = palette.surface;
    ctx.lineWidth = 3;
    ctx.strokeText(text, x, y);
    ctx.fillStyle = palette.ink;
    ctx.fillText(text, x, y);
  }
}

/** Tokens are named on the axis, logits above them. */
function isNamedElsewhere(type: PictureNode["type"] | undefined): boolean {
  return type === "token" || type === "logit";
}

export function shorten(ctx: Context, text: string, width: number): string {
  if (ctx.measureText(text).width <= width) return text;
  let end = text.length - 1;
  while (end > 1 && ctx.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return `${text.slice(0, end)}…`;
}

export function radius(scene: Scene, row: number): number {
  const node = scene.graph.nodes[row];
  const influence = Math.min(1, node?.influence ?? 0);
  const zoom = Math.min(2, Math.max(0.55, Math.sqrt(scene.view.k)));
  return (3.2 + 6 * Math.sqrt(influence)) * zoom;
}

export function screen({ layout, view }: Scene, row: number): { x: number; y: number } {
  return { x: (layout.x[row] ?? 0) * view.k + view.x, y: (layout.y[row] ?? 0) * view.k + view.y };
}

function trace(path: Path2D, scene: Scene, e: number, curved: boolean): void {
  const from = screen(scene, scene.graph.edges.source[e] ?? 0);
  const to = screen(scene, scene.graph.edges.target[e] ?? 0);
  path.moveTo(from.x, from.y);
  if (!curved) {
    path.lineTo(to.x, to.y);
    return;
  }
  const rise = (to.y - from.y) * 0.45;
  // Edges that stay above one token bend aside, so that they do not hide behind the nodes between.
  const bend = Math.abs(to.x - from.x) < 4 ? Math.min(26, Math.abs(rise) * 0.22) : 0;
  path.bezierCurveTo(from.x - bend, from.y + rise, to.x - bend, to.y - rise, to.x, to.y);
}
