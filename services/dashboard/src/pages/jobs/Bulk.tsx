import { Button } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { cancelJob, eachOf, retryJob, runAgain, type Outcome } from "../../api/jobs";
import { isTerminal, type JobSummary, type JobView } from "../../api/types";
import { MOST_RUNS } from "../../charts/runs";
import { Confirm } from "../../components/Confirm";
import { applyJob } from "../../live/cache";
import classes from "../Jobs.module.css";

interface Props {
  chosen: readonly JobSummary[];
  onClear: () => void;
}

/** What one can do with the jobs that are chosen. */
export function Bulk({ chosen, onClear }: Props) {
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: ({ jobs, one }: { jobs: readonly JobSummary[]; one: (id: string) => Promise<JobView>; done: string }) =>
      eachOf(jobs, one, (job) => applyJob(client, job)),
    onSuccess: onClear,
  });
  const living = chosen.filter((job) => !isTerminal(job.state) && !job.cancel_requested);
  const ended = chosen.filter((job) => isTerminal(job.state));
  const failed = ended.filter((job) => job.state !== "succeeded");
  const runs = chosen.filter((job) => job.kind === "train" || job.kind === "import-coders");
  return (
    <div className={classes.bulk} role="toolbar" aria-label="Chosen jobs">
      <span role="status">{chosen.length > 0 ? `${chosen.length} chosen` : act.isSuccess ? told(act.data, act.variables.done) : ""}</span>
      {living.length > 0 && (
        <Confirm action="Cancel" pending={act.isPending} onConfirm={() => act.mutate({ jobs: living, one: cancelJob, done: "cancelled" })}>
          {living.length === 1 ? "The job stops" : `The ${living.length} jobs stop`} at the next step. What was made so far is not published.
        </Confirm>
      )}
      {failed.length > 0 && (
        <Confirm action="Retry" pending={act.isPending} onConfirm={() => act.mutate({ jobs: failed, one: (id) => retryJob(id), done: "tried again" })}>
          {failed.length === 1 ? "A new job tries it" : `${failed.length} new jobs try them`} again with the same inputs, from the last checkpoint while it is kept.
        </Confirm>
      )}
      {ended.length > 0 && (
        <Confirm action="Run again" pending={act.isPending} onConfirm={() => act.mutate({ jobs: ended, one: runAgain, done: "submitted again" })}>
          {ended.length === 1 ? "A new job is" : `${ended.length} new jobs are`} submitted that ask for the same.
        </Confirm>
      )}
      {runs.length > 1 && runs.length <= MOST_RUNS && runs.length === chosen.length && (
        <Button variant="default" size="compact-sm" renderRoot={(p) => <Link to="/compare" search={{ runs: runs.map((run) => run.id).join(",") }} {...p} />}>
          Compare
        </Button>
      )}
      {chosen.length > 0 && (
        <Button variant="subtle" size="compact-sm" onClick={onClear}>
          Choose none
        </Button>
      )}
    </div>
  );
}

function told({ done, failed }: Outcome, word: string): string {
  const reasons = [...new Set(failed.map(({ problem }) => problem.detail))];
  return [`${done} ${word}.`, failed.length > 0 && `${failed.length} not: ${reasons.slice(0, 3).join("; ")}.`].filter(Boolean).join(" ");
}
