import { token } from "../format";
import { shorten, type Scene } from "./draw";
import { layerName } from "./model";
import { MARGIN } from "./view";

type Context = CanvasRenderingContext2D;

/** Shades every other token, so that columns can be followed. */
export function drawBands(ctx: Context, { layout, view, palette, size }: Scene): void {
  ctx.fillStyle = palette.ink;
  ctx.globalAlpha = 0.022;
  for (const column of layout.columns) {
    if (column.at % 2 === 1) continue;
    ctx.fillRect(column.start * view.k + view.x, 0, column.size * view.k, size.height);
  }
  ctx.globalAlpha = 1;
}

/** Names of layers and tokens, at the border of the screen wherever one has panned to. */
export function drawAxes(ctx: Context, scene: Scene): void {
  const { layout, view, palette, size, graph } = scene;
  const { summary } = graph.document;
  ctx.fillStyle = palette.surface;
  ctx.fillRect(0, 0, MARGIN.left - 8, size.height);
  ctx.fillRect(0, size.height - MARGIN.bottom + 6, size.width, MARGIN.bottom);
  ctx.fillStyle = palette.dim;
  ctx.font = `11px ${palette.font}`;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  let last = Infinity;
  for (const row of layout.rows) {
    const y = (row.start + row.size / 2) * view.k + view.y;
    if (last - y < 13 || y < 8 || y > size.height - MARGIN.bottom) continue;
    ctx.fillText(layerName(row.at, summary.n_layers), MARGIN.left - 14, y);
    last = y;
  }
  ctx.textAlign = "center";
  ctx.fillStyle = palette.ink;
  ctx.font = `12px ${palette.font}`;
  for (const column of layout.columns) {
    const width = column.size * view.k;
    const x = column.start * view.k + view.x + width / 2;
    if (x < MARGIN.left || x > size.width || width < 9) continue;
    ctx.fillText(shorten(ctx, token(summary.tokens[column.at] ?? ""), width - 4), x, size.height - MARGIN.bottom / 2 + 3);
  }
}
