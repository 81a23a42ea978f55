import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useCallback, useMemo } from "react";

import { closerQuery, metricsQuery, stepTimesQuery, WHOLE_CURVE } from "../../api/queries";
import type { MetricSeries } from "../../api/types";
import { forward, overTime, stepsBetween, type Tick } from "../../charts/clock";
import { groupByMetric, refined } from "../../charts/curves";
import type { ChartView, Zoom } from "../../charts/view";
import { Card } from "../../components/Card";
import { ChartControls } from "../../components/ChartControls";
import { Failed, Loading } from "../../components/States";
import { mergeSeries, type Feed } from "../../live/feed";
import classes from "./job.module.css";

const MetricChart = lazy(() => import("../../components/MetricChart"));

const NOWHERE = { first: 0, last: 0 };
const NOTHING: readonly MetricSeries[] = [];

interface Props {
  id: string;
  feed: Feed;
  /** ISO time at which the job first ran. */
  startedAt: string | null;
  view: ChartView;
  onView: (view: ChartView) => void;
}

export function Metrics({ id, feed, startedAt, view, onView }: Props) {
  const stored = useQuery(metricsQuery(id));
  const ticks = useTicks(id, feed, startedAt, view.x === "time");
  const series = useCloser(id, stored.data, view, ticks);
  const groups = useMemo(() => groupByMetric(mergeSeries(series, feed)), [series, feed]);
  const shown = useMemo(() => (view.x === "time" ? groups.map((group) => overTime(group, ticks)) : groups), [groups, ticks, view.x]);
  const onZoom = useCallback((zoom: Zoom | null) => onView({ ...view, zoom }), [view, onView]);
  if (stored.isError && groups.length === 0) return <Failed error={stored.error} retry={() => void stored.refetch()} />;
  if (groups.length === 0) return null;
  return (
    <Card title="Metrics" aside={<ChartControls view={view} onChange={onView} />}>
      <Suspense fallback={<Loading rows={4} />}>
        <div className={classes.charts}>
          {shown.map((group) => (
            <MetricChart key={group.name} group={group} syncKey={id} view={view} onZoom={onZoom} />
          ))}
        </div>
      </Suspense>
    </Card>
  );
}

/** The stored curves; of long ones, what is zoomed in to is fetched as closely as it can be drawn. */
function useCloser(id: string, stored: readonly MetricSeries[] | undefined, { x, zoom }: ChartView, ticks: readonly Tick[]): readonly MetricSeries[] {
  const thinned = stored?.some(({ steps }) => steps.length > WHOLE_CURVE) ?? false;
  const range = useMemo(() => {
    if (!zoom || !thinned) return null;
    return x === "time" ? stepsBetween(ticks, zoom.from, zoom.to) : { first: Math.max(0, Math.ceil(zoom.from)), last: Math.max(0, Math.floor(zoom.to)) };
  }, [x, zoom, ticks, thinned]);
  const closer = useQuery({ ...closerQuery(id, range ?? NOWHERE), enabled: range !== null });
  return useMemo(
    () => (stored && range && closer.data ? refined(stored, closer.data, range.first, range.last) : (stored ?? NOTHING)),
    [stored, closer.data, range],
  );
}

/** What the lab has kept of when steps were measured, and what the live events add. */
function useTicks(id: string, feed: Feed, startedAt: string | null, wanted: boolean): Tick[] {
  const stored = useQuery({ ...stepTimesQuery(id), enabled: wanted });
  return useMemo(() => {
    if (startedAt === null || !wanted) return [];
    const moments = [...(stored.data ?? []), ...feed.moments];
    return forward(moments.map(({ step, at }) => ({ step, seconds: (Date.parse(at) - Date.parse(startedAt)) / 1000 })));
  }, [stored.data, feed.moments, startedAt, wanted]);
}
