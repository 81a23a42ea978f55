/** Curves as charts draw them: pure functions of series. */
import type { MetricSeries } from "../api/types";
import type { ChartView } from "./view";

export type Column = (number | null)[];

export interface Curve {
  label: string;
  layer: number | null;
  /** Ascending: steps, or seconds. */
  x: number[];
  values: Column;
}

export interface MetricGroup {
  name: string;
  series: Curve[];
}

const LAYER = /^L(\d+)(?:\.([^/]+))?\/(.+)$/;

/** Of which layer and which variant of its coders a series is; a name without a layer is of neither. */
export function placeOf(name: string): { metric: string; layer: number | null; variant: string | null } {
  const match = LAYER.exec(name);
  return { metric: match?.[3] ?? name, layer: match ? Number(match[1]) : null, variant: match?.[2] ?? null };
}

/** `L03/fvu` and `L04/fvu` are two lines of the chart `fvu`; a name without a layer is a chart of its own. */
export function groupByMetric(series: readonly MetricSeries[]): MetricGroup[] {
  const groups = new Map<string, MetricGroup>();
  for (const { name, steps, values } of series) {
    const { metric, layer, variant } = placeOf(name);
    const group = groups.get(metric) ?? { name: metric, series: [] };
    const label = layer === null ? metric : variant === null ? `L${layer}` : `L${layer} ${variant}`;
    group.series.push({ label, layer, x: steps, values });
    groups.set(metric, group);
  }
  for (const group of groups.values()) group.series.sort((a, b) => (a.layer ?? -1) - (b.layer ?? -1));
  return [...groups.values()].sort((a, b) => byInterest(a.name, b.name));
}

/** The curves with `closer` in place of what they had from `first` to `last`. */
export function refined(series: readonly MetricSeries[], closer: readonly MetricSeries[], first: number, last: number): MetricSeries[] {
  const byName = new Map(closer.map((each) => [each.name, each]));
  return series.map((coarse) => {
    const close = byName.get(coarse.name);
    if (!close) return coarse;
    const before = coarse.steps.findIndex((step) => step >= first);
    const [from, to] = [before < 0 ? coarse.steps.length : before, coarse.steps.findLastIndex((step) => step <= last) + 1];
    return {
      name: coarse.name,
      steps: [...coarse.steps.slice(0, from), ...close.steps, ...coarse.steps.slice(to)],
      values: [...coarse.values.slice(0, from), ...close.values, ...coarse.values.slice(to)],
    };
  });
}

/** What is looked at first stands first. */
export function byInterest(a: string, b: string): number {
  const order = (name: string) => (name.includes("heldout") ? 0 : name.includes("fvu") ? 1 : name.includes("loss") ? 2 : 3);
  return order(a) - order(b) || a.localeCompare(b);
}

/** Columns for a chart whose lines were measured at different x: the union of all x, null where a line has no value. */
export function align(group: MetricGroup): [number[], ...Column[]] {
  const [first, ...others] = group.series;
  if (!first) return [[]];
  if (others.every((curve) => same(curve.x, first.x))) return [first.x, ...group.series.map((curve) => curve.values)];
  const xs = [...new Set(group.series.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  const row = new Map(xs.map((x, i) => [x, i]));
  const columns = group.series.map((curve) => {
    const column: Column = new Array<number | null>(xs.length).fill(null);
    curve.x.forEach((x, i) => {
      const at = row.get(x);
      if (at !== undefined) column[at] = curve.values[i] ?? null;
    });
    return column;
  });
  return [xs, ...columns];
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((x, i) => x === b[i]));
}

/** What is drawn: each line as measured, and then, where smoothing is asked for, each line smoothed. */
export function drawn(group: MetricGroup, { logScale, smoothing }: Pick<ChartView, "logScale" | "smoothing">): [number[], ...Column[]] {
  const [xs, ...measured] = align(group);
  const shown = logScale ? measured.map((column) => column.map((value) => (value !== null && value > 0 ? value : null))) : measured;
  return smoothing === 0 ? [xs, ...shown] : [xs, ...shown, ...shown.map((column) => smoothed(column, smoothing))];
}

/**
 * Exponential moving mean with its start-up bias divided out: the first value stays as it is, and a constant stays
 * constant. `weight` is that of the past, from 0 to below 1; gaps stay gaps.
 */
export function smoothed(column: Column, weight: number): Column {
  let mean = 0;
  let known = 0;
  return column.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    known = weight * known + (1 - weight);
    return mean / known;
  });
}
