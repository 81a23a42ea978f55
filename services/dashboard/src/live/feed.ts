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
  /** When which step was measured. */
  moments: Moment[];
  fence: number;
}

export interface Moment {
  step: number;
  at: string;
}

export const EMPTY_FEED: Feed = { log: [], points: new Map(), moments: [], fence: 0 };
const ANSI = /\u001b\[[0-9;?]*[A-Za-z]/g;

export function foldEvents(feed: Feed, events: readonly EventView[]): Feed {
  const fresh = logLines(events);
  const points = new Map(feed.points);
  let fence = feed.fence;
  const touched = new Set<string>();
  let moments = feed.moments;
  for (const event of events) {
    if (event.type !== "metric") continue;
    if (event.fence > fence) {
      // A later attempt: what the former one measured past its checkpoint no longer counts.
      points.clear();
      touched.clear();
      moments = [];
      fence = event.fence;
    }
    const step = Number(event.data.step);
    if (moments === feed.moments) moments = moments.slice();
    moments.push({ step, at: event.at });
    for (const [name, value] of Object.entries(event.data.values as Record<string, number | null>)) {
      const old = points.get(name) ?? [];
      const series = touched.has(name) ? old : old.slice();
      series.push({ step, value });
      touched.add(name);
      points.set(name, series);
    }
  }
  return { log: fresh.length > 0 ? [...feed.log, ...fresh] : feed.log, points, moments, fence };
}

/** The lines of a log that events are told by. */
export function logLines(events: readonly EventView[]): LogLine[] {
  return events.flatMap((event) => logLine(event) ?? []);
}

function logLine(event: EventView): LogLine | null {
  const line = (level: LogLine["level"], message: string): LogLine => ({ seq: event.seq, at: event.at, level, message });
  const data = event.data as Record<string, string | number | null>;
  switch (event.type) {
    case "log":
      return line((data.level ?? "info") as LogLine["level"], String(data.message).replace(ANSI, ""));
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
