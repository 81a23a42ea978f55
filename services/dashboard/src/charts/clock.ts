/** When a run was at which step, for charts over time. */
import type { MetricGroup } from "./curves";

/** When a step was measured, seconds from the start of the run. */
export interface Tick {
  step: number;
  seconds: number;
}

/** Time runs forward: of ticks that an earlier attempt left beyond its checkpoint, none contradicts a later one. */
export function forward(ticks: readonly Tick[]): Tick[] {
  const newest = new Map<number, number>();
  for (const { step, seconds } of ticks) newest.set(step, Math.max(seconds, newest.get(step) ?? -Infinity));
  const kept: Tick[] = [];
  for (const [step, seconds] of [...newest].sort(([a], [b]) => a - b)) {
    if (seconds >= (kept.at(-1)?.seconds ?? -Infinity)) kept.push({ step, seconds });
  }
  return kept;
}

/** Seconds at a step: on a line between the ticks around it, as the nearest tick outside of them. */
export function secondsAt(ticks: readonly Tick[], step: number): number {
  let [low, high] = [0, ticks.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((ticks[middle]?.step ?? 0) <= step) low = middle;
    else high = middle;
  }
  const [before, after] = [ticks[low], ticks[high]];
  if (!before || !after || before.step >= step || before.step === after.step) return before?.seconds ?? 0;
  const share = Math.min(1, (step - before.step) / (after.step - before.step));
  return before.seconds + share * (after.seconds - before.seconds);
}

/** The first and the last step that were measured between two moments; null where none was. */
export function stepsBetween(ticks: readonly Tick[], from: number, to: number): { first: number; last: number } | null {
  const [first, last] = [ticks.find(({ seconds }) => seconds >= from), ticks.findLast(({ seconds }) => seconds <= to)];
  return first && last && first.step <= last.step ? { first: first.step, last: last.step } : null;
}

/** The same lines over seconds. */
export function overTime(group: MetricGroup, ticks: readonly Tick[]): MetricGroup {
  return {
    ...group,
    series: group.series.map((curve) => ({ ...curve, x: curve.x.map((step) => secondsAt(ticks, step)) })),
  };
}
