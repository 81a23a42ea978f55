import { NativeSelect } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { lazy, Suspense, useMemo } from "react";

import { stepTimesQuery } from "../../api/queries";
import { forward, overTime, type Tick } from "../../charts/clock";
import type { MetricGroup } from "../../charts/curves";
import { layersOf, overlay, type Run } from "../../charts/runs";
import { chartView, toSearch, type ChartSearch } from "../../charts/view";
import { Card } from "../../components/Card";
import { ChartControls } from "../../components/ChartControls";
import { Loading } from "../../components/States";
import classes from "./compare.module.css";

const MetricChart = lazy(() => import("../../components/MetricChart"));
const MEAN = "mean";

interface Search extends ChartSearch {
  layer?: number;
}

interface Props {
  runs: readonly Run[];
  /** When each began, by id. */
  startedAt: ReadonlyMap<string, string | null>;
  search: Search;
  onSearch: (search: Search) => void;
}

/** The runs' curves, a chart for each metric. */
export function Curves({ runs, startedAt, search, onSearch }: Props) {
  const view = useMemo(() => chartView(search), [search]);
  const layers = layersOf(runs);
  const layer = search.layer ?? null;
  const clocks = useQueries({ queries: runs.map((run) => ({ ...stepTimesQuery(run.id), enabled: view.x === "time" })) });
  if (runs.every((run) => run.series.length === 0)) return null;
  const clockOf = (run: Run, i: number): Tick[] => {
    const start = Date.parse(startedAt.get(run.id) ?? "");
    return forward((clocks[i]?.data ?? []).map(({ step, at }) => ({ step, seconds: (Date.parse(at) - start) / 1000 })));
  };
  const groups =
    view.x === "step" ? overlay(runs, layer) : merged(runs.map((run, i) => overlay([run], layer).map((group) => overTime(group, clockOf(run, i)))));
  return (
    <Card title="Curves" aside={<ChartControls view={view} onChange={(next) => onSearch(toSearch(next))} />}>
      {layers.length > 1 && (
        <NativeSelect
          size="xs"
          w={200}
          mb="sm"
          label="Layer"
          data={[{ value: MEAN, label: "mean over layers" }, ...layers.map((each) => ({ value: String(each), label: `layer ${each}` }))]}
          value={layer === null ? MEAN : String(layer)}
          onChange={({ currentTarget: { value } }) => onSearch({ layer: value === MEAN ? undefined : Number(value) })}
        />
      )}
      <Suspense fallback={<Loading rows={4} />}>
        <div className={classes.charts}>
          {groups.map((group) => (
            <MetricChart key={group.name} group={group} syncKey="compare" view={view} onZoom={(zoom) => onSearch(toSearch({ ...view, zoom }))} />
          ))}
        </div>
      </Suspense>
    </Card>
  );
}

/** The groups of several runs, a group for each metric. */
function merged(all: readonly MetricGroup[][]): MetricGroup[] {
  const groups = new Map<string, MetricGroup>();
  for (const { name, series } of all.flat()) groups.set(name, { name, series: [...(groups.get(name)?.series ?? []), ...series] });
  return [...groups.values()];
}
