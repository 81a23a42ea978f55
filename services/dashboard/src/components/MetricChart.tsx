import "uplot/dist/uPlot.min.css";

import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";

import { decimal, short } from "../format";
import { align, type MetricGroup } from "../live/feed";
import classes from "./MetricChart.module.css";

interface Props {
  group: MetricGroup;
  /** Charts of one key share their cursor. */
  syncKey: string;
  logScale: boolean;
}

const HEIGHT = 190;
// uPlot declares its enums as `const enum`, which isolated modules cannot read: the number stands for itself.
// eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
const LOGARITHMIC: uPlot.Scale.Distr = 3;

/** One metric over steps, a line a layer; the legend shows the values under the cursor, else the last ones. */
export default function MetricChart({ group, syncKey, logScale }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useComputedColorScheme("light") === "dark";
  const data = useMemo(() => columns(group, logScale), [group, logScale]);
  const latest = useRef(data);
  const zoomed = useRef(false);
  const labels = group.series.map((series) => series.label).join(",");

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const chart = new uPlot(options(labels.split(","), element, { dark, logScale, syncKey }), latest.current, element);
    plot.current = chart;
    zoomed.current = false;
    const onZoom = () => (zoomed.current = chart.select.width > 0);
    const onReset = () => (zoomed.current = false);
    chart.hooks.setSelect = [onZoom];
    chart.over.addEventListener("dblclick", onReset);
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [labels, dark, logScale, syncKey]);

  useEffect(() => {
    latest.current = data;
    // A zoom the reader chose survives new points; a double click ends it.
    plot.current?.setData(data, !zoomed.current);
    if (zoomed.current) plot.current?.redraw();
  }, [data]);

  return (
    <figure className={classes.chart} data-metric={group.name}>
      <figcaption>{group.name}</figcaption>
      <div ref={box} role="img" aria-label={summary(group)} />
    </figure>
  );
}

function columns(group: MetricGroup, logScale: boolean): uPlot.AlignedData {
  const [steps, ...values] = align(group);
  if (!logScale) return [steps, ...values];
  return [steps, ...values.map((column) => column.map((value) => (value !== null && value > 0 ? value : null)))];
}

function summary(group: MetricGroup): string {
  const parts = group.series.map((s) => `${s.label} ${decimal(s.values[0])} to ${decimal(s.values.at(-1))}`);
  return `${group.name} over steps: ${parts.join("; ")}`;
}

interface Look {
  dark: boolean;
  logScale: boolean;
  syncKey: string;
}

function options(labels: string[], element: HTMLElement, { dark, logScale, syncKey }: Look): uPlot.Options {
  const style = getComputedStyle(element);
  const ink = style.getPropertyValue("--ink-2");
  const line = style.getPropertyValue("--line");
  const font = `11px ${style.fontFamily}`;
  const axis: uPlot.Axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 14, 0, 0],
    cursor: { sync: { key: syncKey }, points: { size: 6 }, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: logScale ? { distr: LOGARITHMIC } : {} },
    axes: [
      { ...axis, size: 26, values: (_, ticks) => ticks.map((step) => (Number.isInteger(step) ? short(step) : "")) },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((value: number | null) => (value === null ? "" : short(value))) },
    ],
    legend: { live: true, markers: { width: 0, fill: (_, i) => hue(i - 1, labels.length, dark) } },
    series: [
      { label: "step", value: (chart, step: number | null) => String(step ?? chart.data[0].at(-1) ?? "") },
      ...labels.map((label, i) => ({
        label,
        stroke: hue(i, labels.length, dark),
        width: 1.5,
        spanGaps: true,
        points: { size: 4 },
        value: (chart: uPlot, value: number | null, series: number, row: number | null) =>
          decimal(value ?? before(chart.data[series] ?? [], row)),
      })),
    ],
  };
}

/** The last value at or before a row: series need not be measured at every step. */
function before(column: ArrayLike<number | null | undefined>, row: number | null): number | null {
  for (let i = row ?? column.length - 1; i >= 0; i -= 1) {
    const value = column[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

/** Deep layers blue, shallow ones warm, evenly spaced and equally light. */
function hue(i: number, n: number, dark: boolean): string {
  const at = n <= 1 ? 1 : i / (n - 1);
  return `oklch(${dark ? 0.76 : 0.58} 0.14 ${30 + 235 * at})`;
}
