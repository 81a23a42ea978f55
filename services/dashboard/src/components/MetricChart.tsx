import "uplot/dist/uPlot.min.css";

import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";

import { drawn, type MetricGroup } from "../charts/curves";
import { hue } from "../charts/palette";
import { thin } from "../charts/thin";
import { rounded, sameZoom, type ChartView, type Zoom } from "../charts/view";
import { decimal, duration, short } from "../format";
import classes from "./MetricChart.module.css";

interface Props {
  group: MetricGroup;
  /** Charts of one key share their cursor. */
  syncKey: string;
  view: ChartView;
  /** A range of x that was dragged over; null on a double click. */
  onZoom: (zoom: Zoom | null) => void;
}

const HEIGHT = 190;
/** More lines than this are a hair wide: wider ones take several times as long to draw, and cover each other. */
const FEW = 16;
/** Pixels that share the lowest and the highest point of a line; of many lines, none can be followed more closely. */
const COLUMN = { few: 1, many: 4 };
// uPlot declares its enums as `const enum`, which isolated modules cannot read: the number stands for itself.
// eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
const LOGARITHMIC: uPlot.Scale.Distr = 3;

/** One metric over steps or time, a line a layer or a run; the legend shows the values under the cursor, else the last ones. */
export default function MetricChart({ group, syncKey, view, onZoom }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useComputedColorScheme("light") === "dark";
  const { logScale, smoothing, x, zoom } = view;
  const data = useMemo(() => drawn(group, { logScale, smoothing }), [group, logScale, smoothing]);
  const shown = useRef({ data, zoom });
  const zoomed = useRef(onZoom);
  const labels = group.series.map((series) => series.label).join("\n");
  const words = useMemo(() => summary(group, x), [group, x]);
  const smooth = smoothing > 0;

  useEffect(() => {
    const before = shown.current;
    shown.current = { data, zoom };
    zoomed.current = onZoom;
    if (plot.current && (before.data !== data || !sameZoom(before.zoom, zoom))) show(plot.current, data, zoom);
  }, [data, zoom, onZoom]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const chart = new uPlot(options(labels.split("\n"), element, { dark, logScale, smooth, x, syncKey }), shown.current.data, element);
    plot.current = chart;
    show(chart, shown.current.data, shown.current.zoom);
    // Shown in the next frame; the page and its other charts follow in the one after.
    const zoomTo = (next: Zoom | null) => {
      shown.current = { ...shown.current, zoom: next };
      show(chart, shown.current.data, next);
      requestAnimationFrame(() => requestAnimationFrame(() => zoomed.current(next)));
    };
    chart.hooks.setSelect = [
      () => {
        const { left, width } = chart.select;
        if (width <= 0) return;
        chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        const next = rounded({ from: chart.posToVal(left, "x"), to: chart.posToVal(left + width, "x") });
        if (next.from < next.to) zoomTo(next);
      },
    ];
    const onReset = () => zoomTo(null);
    chart.over.addEventListener("dblclick", onReset);
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [labels, dark, logScale, smooth, x, syncKey]);

  return (
    <figure className={classes.chart} data-metric={group.name}>
      <figcaption>{group.name}</figcaption>
      <div ref={box} role="img" aria-label={words} />
    </figure>
  );
}

/** New points leave a zoom as it is. A chart of other lines is about to be replaced. */
function show(chart: uPlot, data: uPlot.AlignedData, zoom: Zoom | null): void {
  if (chart.series.length !== data.length) return;
  chart.setData(data);
  if (!zoom) return;
  chart.setScale("x", { min: zoom.from, max: zoom.to });
  chart.redraw();
}

function summary(group: MetricGroup, x: ChartView["x"]): string {
  const parts = group.series.map((s) => `${s.label} ${decimal(s.values[0])} to ${decimal(s.values.at(-1))}`);
  return `${group.name} over ${x === "time" ? "time" : "steps"}: ${parts.join("; ")}`;
}

interface Look {
  dark: boolean;
  logScale: boolean;
  smooth: boolean;
  x: ChartView["x"];
  syncKey: string;
}

function options(labels: string[], element: HTMLElement, { dark, logScale, smooth, x, syncKey }: Look): uPlot.Options {
  const style = getComputedStyle(element);
  const ink = style.getPropertyValue("--ink-2");
  const line = style.getPropertyValue("--line");
  const font = `11px ${style.fontFamily}`;
  const axis: uPlot.Axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const tick = x === "time" ? duration : (step: number) => (Number.isInteger(step) ? short(step) : "");
  const paths = lines(labels.length > FEW ? COLUMN.many : COLUMN.few);
  const curves = labels.map((label, i): uPlot.Series => ({
    label,
    stroke: hue(i, labels.length, dark),
    width: labels.length > FEW ? 1 / devicePixelRatio : 1.5,
    paths,
    points: { size: 4 },
    value: (chart: uPlot, value: number | null, series: number, row: number | null) =>
      decimal(value ?? before(chart.data[series] ?? [], row)),
  }));
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 14, 0, 0],
    cursor: {
      // Only the cursor is shared this way: a zoom comes back to every chart from the page.
      sync: { key: syncKey, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      // Each is a layer of the page, so of many lines only the legend follows the cursor.
      points: { size: 6, show: labels.length <= FEW },
      drag: { x: true, y: false, setScale: false },
    },
    scales: { x: { time: false }, y: logScale ? { distr: LOGARITHMIC } : {} },
    axes: [
      { ...axis, size: 26, values: (_, ticks) => ticks.map(tick) },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((value: number | null) => (value === null ? "" : short(value))) },
    ],
    legend: { live: true, markers: { width: 0, fill: (_, i) => hue((i - 1) % labels.length, labels.length, dark) } },
    series: [
      {
        label: x,
        value: (chart, at: number | null) => {
          const value = at ?? chart.data[0].at(-1);
          return value === undefined ? "" : x === "time" ? duration(value) : String(value);
        },
      },
      ...(smooth ? curves.map((curve, i): uPlot.Series => ({ ...curve, class: classes.measured, stroke: hue(i, labels.length, dark, 0.25) })) : []),
      ...curves,
    ],
  };
}

/** Lines over their gaps, thinned to columns of so many pixels. */
function lines(column: number): uPlot.Series.PathBuilder {
  let of = "";
  let within: ArrayLike<number> | null = null;
  let columns: Int32Array = new Int32Array();
  return (chart, series, from, to) => {
    const [xs, ys] = [chart.data[0], chart.data[series] ?? []];
    const { min, max } = chart.scales.x ?? {};
    const drawing = [from, to, min, max, chart.bbox.width].join();
    if (drawing !== of || xs !== within) {
      // The same for all lines of one drawing.
      [of, within] = [drawing, xs];
      columns = Int32Array.from(xs, (x, i) => (i < from || i > to ? 0 : Math.floor(chart.valToPos(x, "x", true) / column)));
    }
    const stroke = new Path2D();
    // The first of all begins the path.
    thin(columns, ys, from, to, (i) => stroke.lineTo(chart.valToPos(xs[i] ?? 0, "x", true), chart.valToPos(ys[i] ?? 0, "y", true)));
    return { stroke };
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
