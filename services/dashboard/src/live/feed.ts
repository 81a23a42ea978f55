/** What a job page knows from events, as a pure fold over them. */
import type { EventView, MetricSeries } from "../api/types";

export interface LogLine {
  seq: number;
  at: string;
  level: "debug" | "info" | "warning" | "error" | "event";
  message: string;
}

export interface Point {
  step: number;
  /** null where it was not a finite number. */
  value: number | null;
}

export interface Feed {
  log: LogLine[];
  points: ReadonlyMap<string, Point[]>;
  fence: number;
}

export const EMPTY_FEED: Feed = { log: [], points: new Map(), fence: 0 };
const LOG_LINES = 1000;

export function foldEvents(feed: Feed, events: readonly EventView[]): Feed {
  const log = feed.log.slice();
  const points = new Map(feed.points);
  let fence = feed.fence;
  const touched = new Set<string>();
  for (const event of events) {
    const line = logLine(event);
    if (line) log.push(line);
    if (event.type !== "metric") continue;
    if (event.fence > fence) {
      // A later attempt: what the former one measured past its checkpoint no longer counts.
      points.clear();
      touched.clear();
      fence = event.fence;
    }
    const step = Number(event.data.step);
    for (const [name, value] of Object.entries(event.data.values as Record<string, number | null>)) {
      const old = points.get(name) ?? [];
      const series = touched.has(name) ? old : old.slice();
      series.push({ step, value });
      touched.add(name);
      points.set(name, series);
    }
  }
  return { log: log.slice(-LOG_LINES), points, fence };
}

function logLine(event: EventView): LogLine | null {
  const line = (level: LogLine["level"], message: string): LogLine => ({ seq: event.seq, at: event.at, level, message });
  const data = event.data as Record<string, string | number | null>;
  switch (event.type) {
    case "log":
      return line((data.level ?? "info") as LogLine["level"], String(data.message));
    case "state":
      return line("event", data.reason ? `${data.state} (${data.reason})` : String(data.state));
    case "checkpoint":
      return line("event", `checkpoint at step ${data.step}`);
    case "artifact":
      return line("event", `stored ${data.name}`);
    default:
      return null;
  }
}

/** Stored series with the points that arrived since; live points at or before the last stored step are already in it. */
export function mergeSeries(stored: readonly MetricSeries[], feed: Feed): MetricSeries[] {
  const byName = new Map(stored.map((series) => [series.name, series]));
  for (const [name, points] of feed.points) {
    const base = byName.get(name) ?? { name, steps: [], values: [] };
    const last = base.steps.at(-1) ?? -Infinity;
    const fresh = points.filter((point) => point.step > last);
    if (fresh.length === 0) continue;
    byName.set(name, {
      name,
      steps: [...base.steps, ...fresh.map((point) => point.step)],
      values: [...base.values, ...fresh.map((point) => point.value)],
    });
  }
  return [...byName.values()];
}

export interface MetricGroup {
  name: string;
  series: { label: string; layer: number | null; steps: number[]; values: (number | null)[] }[];
}

const LAYER = /^L(\d+)\/(.+)$/;

/** `L03/fvu` and `L04/fvu` are two lines of the chart `fvu`; a name without a layer is a chart of its own. */
export function groupByMetric(series: readonly MetricSeries[]): MetricGroup[] {
  const groups = new Map<string, MetricGroup>();
  for (const { name, steps, values } of series) {
    const match = LAYER.exec(name);
    const metric = match?.[2] ?? name;
    const layer = match ? Number(match[1]) : null;
    const group = groups.get(metric) ?? { name: metric, series: [] };
    group.series.push({ label: layer === null ? metric : `L${layer}`, layer, steps, values });
    groups.set(metric, group);
  }
  for (const group of groups.values()) group.series.sort((a, b) => (a.layer ?? -1) - (b.layer ?? -1));
  const order = (name: string) => (name.includes("heldout") ? 0 : name.includes("fvu") ? 1 : name.includes("loss") ? 2 : 3);
  return [...groups.values()].sort((a, b) => order(a.name) - order(b.name) || a.name.localeCompare(b.name));
}

/** Columns for a chart whose lines were measured at different steps: the union of the steps, null where one has none. */
export function align(group: MetricGroup): [number[], ...(number | null)[][]] {
  const steps = [...new Set(group.series.flatMap((series) => series.steps))].sort((a, b) => a - b);
  const row = new Map(steps.map((step, i) => [step, i]));
  const columns = group.series.map((series) => {
    const column = new Array<number | null>(steps.length).fill(null);
    series.steps.forEach((step, i) => {
      const at = row.get(step);
      if (at !== undefined) column[at] = series.values[i] ?? null;
    });
    return column;
  });
  return [steps, ...columns];
}
