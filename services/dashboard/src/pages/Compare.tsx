import { useQueries } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";

import { jobQuery, metricsQuery } from "../api/queries";
import { isTerminal } from "../api/types";
import { labelsOf, MOST_RUNS, type Run } from "../charts/runs";
import { Card, PageTitle } from "../components/Card";
import { Empty, Failed } from "../components/States";
import classes from "./compare/compare.module.css";
import { Curves } from "./compare/Curves";
import { Differences } from "./compare/Differences";
import { Pareto } from "./compare/Pareto";
import { RunPicker } from "./compare/RunPicker";
import { RunList } from "./compare/RunList";

const route = getRouteApi("/lab/compare");
const REFRESH_MS = 5000;

/** Two to fifty runs beside each other. */
export default function Compare() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const named = useMemo(() => [...new Set(search.runs?.split(",").filter(Boolean))], [search.runs]);
  const ids = useMemo(() => named.slice(0, MOST_RUNS), [named]);
  const jobs = useQueries({ queries: ids.map((id) => jobQuery(id)) });
  const metrics = useQueries({
    queries: ids.map((id, i) => ({
      ...metricsQuery(id),
      refetchInterval: () => (jobs[i]?.data && !isTerminal(jobs[i].data.state) ? REFRESH_MS : false as const),
    })),
  });
  const known = jobs.flatMap((job) => (job.data ? [job.data] : []));
  const labels = labelsOf(known);
  const runs = known.map((job, i): Run => ({
    id: job.id,
    label: labels[i] ?? job.name,
    spec: job.spec,
    series: metrics[ids.indexOf(job.id)]?.data ?? [],
  }));
  const choose = (next: string[]) => void navigate({ search: { ...search, runs: next.join(",") || undefined }, replace: true, resetScroll: false });
  const error = jobs.find((job) => job.error && !job.data)?.error;
  return (
    <>
      <PageTitle title="Compare">
        <RunList runs={runs} onRemove={(id) => choose(ids.filter((each) => each !== id))} />
      </PageTitle>
      <div className={classes.stack}>
        {error && <Failed error={error} />}
        {named.length > ids.length && (
          <Card>
            <p role="status" className={classes.note}>
              These are the first {MOST_RUNS} of {named.length} runs; more are not compared at once.
            </p>
          </Card>
        )}
        <RunPicker chosen={ids} onChoose={choose} />
        {ids.length < 2 ? (
          <Empty title="Choose at least two runs">
            Their curves are laid over each other, their specs held against each other, and their coders placed by sparsity and fidelity.
          </Empty>
        ) : (
          <>
            <Curves
              runs={runs}
              startedAt={new Map(known.map((job) => [job.id, job.started_at]))}
              search={search}
              onSearch={(next) => void navigate({ search: { ...search, ...next }, replace: true, resetScroll: false })}
            />
            <Pareto
              runs={runs}
              pair={search.pareto}
              onPair={(pareto) => void navigate({ search: { ...search, pareto }, replace: true, resetScroll: false })}
            />
            <Differences runs={runs} />
          </>
        )}
      </div>
    </>
  );
}
