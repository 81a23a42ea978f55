import { Checkbox } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";

import { metricsQuery } from "../../api/queries";
import { Card } from "../../components/Card";
import { Failed, Loading } from "../../components/States";
import { groupByMetric, mergeSeries, type Feed } from "../../live/feed";
import classes from "./job.module.css";

const MetricChart = lazy(() => import("../../components/MetricChart"));

export function Metrics({ id, feed }: { id: string; feed: Feed }) {
  const stored = useQuery(metricsQuery(id));
  const [logScale, setLogScale] = useState(false);
  const groups = useMemo(() => groupByMetric(mergeSeries(stored.data ?? [], feed)), [stored.data, feed]);
  if (stored.isError && groups.length === 0) return <Failed error={stored.error} retry={() => void stored.refetch()} />;
  if (groups.length === 0) return null;
  return (
    <Card
      title="Metrics"
      aside={
        <Checkbox
          size="xs"
          label="log scale"
          checked={logScale}
          onChange={(event) => setLogScale(event.currentTarget.checked)}
        />
      }
    >
      <Suspense fallback={<Loading rows={4} />}>
        <div className={classes.charts}>
          {groups.map((group) => (
            <MetricChart key={group.name} group={group} syncKey={id} logScale={logScale} />
          ))}
        </div>
      </Suspense>
    </Card>
  );
}
