import { useQuery } from "@tanstack/react-query";
import { getRouteApi, useLocation } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";

import { jobQuery } from "../api/queries";
import { isTerminal, type JobView } from "../api/types";
import { chartView, toSearch, type ChartView } from "../charts/view";
import { Card, Facts, PageTitle } from "../components/Card";
import { ProgressBar } from "../components/ProgressBar";
import { StandingNote } from "../components/StandingNote";
import { StateChip } from "../components/StateChip";
import { Failed, Loading, ProblemBox } from "../components/States";
import { Ago, Elapsed } from "../components/Time";
import { useJobFeed } from "../live/useJobFeed";
import { Actions } from "./job/Actions";
import { Artifacts } from "./job/Artifacts";
import { Ask } from "./job/Ask";
import { Attempts } from "./job/Attempts";
import classes from "./job/job.module.css";
import { Lineage } from "./job/Lineage";
import { Links } from "./job/Links";
import { Log } from "./job/Log";
import { Metrics } from "./job/Metrics";
import { Result } from "./job/Result";
import { Found } from "./job/results/Found";

const route = getRouteApi("/lab/jobs/$id");

export default function Job() {
  const { id } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const view = useMemo(() => chartView(search), [search]);
  const onView = useCallback((next: ChartView) => void navigate({ search: toSearch(next), replace: true, resetScroll: false }), [navigate]);
  const found = useLocation({ select: ({ state }) => state.found });
  const query = useQuery(jobQuery(id));
  const { feed, since } = useJobFeed(id, query.data?.last_seq);
  if (query.isPending) return <Loading />;
  if (!query.data) return <Failed error={query.error} retry={() => void query.refetch()} />;
  const job = query.data;
  return (
    <>
      <PageTitle title={job.name}>
        <StateChip state={job.state} cancelling={job.cancel_requested && job.state === "running"} />
        <span className="dim">{job.kind}</span>
        <span className="dim">
          created <Ago at={job.created_at} />
        </span>
        {job.started_at && (
          <span className="dim">
            {isTerminal(job.state) ? "took" : "running for"} <Elapsed start={job.started_at} end={job.finished_at} />
          </span>
        )}
        <Actions job={job} />
      </PageTitle>
      <div className={classes.grid}>
        <div className={classes.column}>
          {found && (
            <Card>
              <p role="status" className={classes.note}>
                Nothing was submitted: this job had succeeded at exactly the same before. Clone it and switch reuse off to have it made anew.
              </p>
            </Card>
          )}
          {job.error && <ProblemBox problem={job.error} />}
          {job.state !== "succeeded" && (job.progress ?? !isTerminal(job.state)) && (
            <Card>
              {job.state === "queued" && job.standing ? (
                <StandingNote standing={job.standing} big />
              ) : (
                <ProgressBar progress={job.progress} state={job.state} label={job.name} big />
              )}
            </Card>
          )}
          <Found job={job} />
          <Metrics id={id} feed={feed} startedAt={job.started_at} view={view} onView={onView} />
          {since !== undefined && <Log key={id} job={job} since={since} feed={feed} />}
          <Artifacts id={id} />
        </div>
        <div className={classes.column}>
          <Result job={job} />
          <Attempts attempts={job.attempts} />
          <Links job={job} />
          <Lineage job={job} />
          <Ask job={job} />
          <About job={job} />
        </div>
      </div>
    </>
  );
}

function About({ job }: { job: JobView }) {
  return (
    <Card title="About">
      <Facts
        rows={[
          ["id", <span key="id" className="mono">{job.id}</span>],
          ["project", `${job.project}, seen by the ${job.visibility}`],
          ["submitted by", job.user ?? "–"],
          ["priority", job.priority],
          ["pool", job.pool],
          ["worker", job.worker ?? "–"],
          // The failure that ends it is followed by none.
          ["retries", job.max_retries === 0 ? "none" : `${Math.min(job.failure_count, job.max_retries)} of ${job.max_retries} spent`],
          ["interrupted", `${job.lost_count} × lost, ${job.preempt_count} × preempted`],
        ]}
      />
    </Card>
  );
}
