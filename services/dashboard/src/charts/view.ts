/** How a page's charts are drawn, kept in its URL: a reload and a shared link show the same. */
export interface Zoom {
  from: number;
  to: number;
}

export interface ChartView {
  logScale: boolean;
  /** Weight of what came before in the moving mean: 0 is none. */
  smoothing: number;
  x: "step" | "time";
  /** In steps, or in seconds from the start. */
  zoom: Zoom | null;
}

export interface ChartSearch {
  y?: "log";
  smooth?: number;
  x?: "time";
  /** `100..400` */
  zoom?: string;
}

export const MOST_SMOOTHING = 0.99;

const ZOOM = /^(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)$/;

export function chartSearch(search: Record<string, unknown>): ChartSearch {
  const { y, smooth, x, zoom } = search;
  return {
    y: y === "log" ? "log" : undefined,
    smooth: typeof smooth === "number" && smooth > 0 ? Math.min(smooth, MOST_SMOOTHING) : undefined,
    x: x === "time" ? "time" : undefined,
    zoom: typeof zoom === "string" && parseZoom(zoom) ? zoom : undefined,
  };
}

export function chartView({ y, smooth, x, zoom }: ChartSearch): ChartView {
  return { logScale: y === "log", smoothing: smooth ?? 0, x: x ?? "step", zoom: parseZoom(zoom ?? "") };
}

export function toSearch({ logScale, smoothing, x, zoom }: ChartView): ChartSearch {
  return {
    y: logScale ? "log" : undefined,
    smooth: smoothing > 0 ? smoothing : undefined,
    x: x === "time" ? "time" : undefined,
    zoom: zoom ? `${tidy(zoom.from)}..${tidy(zoom.to)}` : undefined,
  };
}

function parseZoom(text: string): Zoom | null {
  const match = ZOOM.exec(text);
  if (!match) return null;
  const [from, to] = [Number(match[1]), Number(match[2])];
  return from < to ? { from, to } : null;
}

/** As it comes back from the URL. */
export function rounded({ from, to }: Zoom): Zoom {
  return { from: Number(tidy(from)), to: Number(tidy(to)) };
}

export function sameZoom(a: Zoom | null, b: Zoom | null): boolean {
  return a?.from === b?.from && a?.to === b?.to;
}

/** A tenth of a step or a second is finer than any screen. */
function tidy(x: number): string {
  return String(Math.round(10 * x) / 10);
}
