import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useCallback, useMemo } from "react";

import { metricsQuery, stepTimesQuery } from "../../api/queries";
import { forward, overTime, type Tick } from "../../charts/clock";
import { groupByMetric } from "../../charts/curves";
import type { ChartView, Zoom } from "../../charts/view";
import { Card } from "../../components/Card";
import { ChartControls } from "../../components/ChartControls";
import { Failed, Loading } from "../../components/States";
import { mergeSeries, type Feed } from "../../live/feed";
import classes from "./job.module.css";

const MetricChart = lazy(() => import("../../components/MetricChart"));

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
  const groups = useMemo(() => groupByMetric(mergeSeries(stored.data ?? [], feed)), [stored.data, feed]);
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

/** What the lab has kept of when steps were measured, and what the live events add. */
function useTicks(id: string, feed: Feed, startedAt: string | null, wanted: boolean): Tick[] {
  const stored = useQuery({ ...stepTimesQuery(id), enabled: wanted });
  return useMemo(() => {
    if (startedAt === null || !wanted) return [];
    const moments = [...(stored.data ?? []), ...feed.moments];
    return forward(moments.map(({ step, at }) => ({ step, seconds: (Date.parse(at) - Date.parse(startedAt)) / 1000 })));
  }, [stored.data, feed.moments, startedAt, wanted]);
}
