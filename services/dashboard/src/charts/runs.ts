/** Runs beside each other: their curves on one chart, what differs between their specs, and who is on the Pareto front. */
import type { CoderView, MetricSeries } from "../api/types";
import { isValues } from "../forms/values";
import { byInterest, placeOf, type Curve, type MetricGroup } from "./curves";

export const MOST_RUNS = 50;

export interface Run {
  id: string;
  label: string;
  spec: unknown;
  series: readonly MetricSeries[];
}

/** Names that tell runs apart: the run's own, with the end of its id where another has the same. */
export function labelsOf(runs: readonly { id: string; name: string }[]): string[] {
  return runs.map(({ id, name }) => (runs.filter((other) => other.name === name).length > 1 ? `${name} #${id.slice(-4)}` : name));
}

/** A chart for each metric, a line for each run: of one layer, or the mean over layers where `layer` is null. */
export function overlay(runs: readonly Run[], layer: number | null): MetricGroup[] {
  const groups = new Map<string, MetricGroup>();
  for (const run of runs) {
    const lines = new Map<string, { metric: string; label: string; series: MetricSeries[] }>();
    for (const series of run.series) {
      const place = placeOf(series.name);
      if (layer !== null && place.layer !== null && place.layer !== layer) continue;
      const key = `${place.metric}\n${place.variant ?? ""}`;
      const label = place.variant === null ? run.label : `${run.label} ${place.variant}`;
      const line = lines.get(key) ?? { metric: place.metric, label, series: [] };
      line.series.push(series);
      lines.set(key, line);
    }
    for (const { metric, label, series } of lines.values()) {
      const group = groups.get(metric) ?? { name: metric, series: [] };
      group.series.push(mean(series, label, layer));
      groups.set(metric, group);
    }
  }
  return [...groups.values()].sort((a, b) => byInterest(a.name, b.name));
}

function mean(series: readonly MetricSeries[], label: string, layer: number | null): Curve {
  const [only] = series;
  if (only && series.length === 1) return { label, layer, x: only.steps, values: only.values };
  const sums = new Map<number, { sum: number; n: number }>();
  for (const { steps, values } of series) {
    steps.forEach((step, i) => {
      const value = values[i] ?? null;
      const at = sums.get(step) ?? { sum: 0, n: 0 };
      sums.set(step, value === null ? at : { sum: at.sum + value, n: at.n + 1 });
    });
  }
  const rows = [...sums].sort(([a], [b]) => a - b);
  return { label, layer, x: rows.map(([step]) => step), values: rows.map(([, { sum, n }]) => (n === 0 ? null : sum / n)) };
}

/** The layers that any run has a curve of. */
export function layersOf(runs: readonly Run[]): number[] {
  const layers = runs.flatMap((run) => run.series.map((series) => placeOf(series.name).layer));
  return [...new Set(layers.filter((layer) => layer !== null))].sort((a, b) => a - b);
}

export interface Difference {
  /** Field names from the spec down, with dots. */
  path: string;
  /** As JSON, by run; null where a spec has no such field. */
  values: (string | null)[];
}

/** The fields in which the specs are not all alike. */
export function differences(specs: readonly unknown[]): Difference[] {
  const flat = specs.map((spec) => flattened(spec, ""));
  const paths = [...new Set(flat.flatMap((fields) => [...fields.keys()]))];
  return paths
    .map((path) => ({ path, values: flat.map((fields) => fields.get(path) ?? null) }))
    .filter(({ values }) => new Set(values).size > 1);
}

function flattened(value: unknown, at: string): Map<string, string> {
  if (!isValues(value)) return new Map([[at, JSON.stringify(value)]]);
  return new Map(Object.entries(value).flatMap(([name, item]) => [...flattened(item, at === "" ? name : `${at}.${name}`)]));
}

/** What coders are held against each other by; less is better of each. */
export const MEASURES = {
  l0: { name: "L0", help: "mean active features a token", of: (coder: CoderView) => coder.metrics?.l0 },
  fvu: { name: "FVU", help: "fraction of variance unexplained", of: (coder: CoderView) => coder.metrics?.fvu },
  ce: {
    name: "CE increase",
    help: "cross-entropy with the coder in place less that without, nats a token",
    of: ({ metrics }: CoderView) => metrics && metrics.ce_spliced - metrics.ce_original,
  },
} as const;
export type Measure = keyof typeof MEASURES;

/** Pairs of measures that a scatter shows, by what the URL calls them. */
export const PAIRS: Record<string, readonly [Measure, Measure]> = { "l0-fvu": ["l0", "fvu"], "l0-ce": ["l0", "ce"], "fvu-ce": ["fvu", "ce"] };

export interface Spot {
  x: number;
  y: number;
}

/** The spots that no other is better than in both, by rising x. */
export function front<S extends Spot>(spots: readonly S[]): S[] {
  const kept: S[] = [];
  for (const spot of [...spots].sort((a, b) => a.x - b.x || a.y - b.y)) {
    if (spot.y < (kept.at(-1)?.y ?? Infinity)) kept.push(spot);
  }
  return kept;
}

/** Round numbers that cover low to high, about `n` of them. */
export function ticks(low: number, high: number, n = 5): number[] {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5].find((each) => each * power >= raw) ?? 10) * power;
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step);
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
