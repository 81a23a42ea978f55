import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";

import { cancelJob, retryJob } from "../../api/jobs";
import { problemOf } from "../../api/problem";
import { jobQuery, sessionQuery } from "../../api/queries";
import { isTerminal, type JobView } from "../../api/types";
import { Confirm } from "../../components/Confirm";
import classes from "./job.module.css";
import { Share } from "./Share";

/** What one can do with a job: watch it beside others, ask for one like it; with one's own, also show it, stop it, try it again. */
export function Actions({ job }: { job: JobView }) {
  const { data: session } = useQuery(sessionQuery);
  return (
    <div className={classes.actions}>
      {job.kind === "train" && (
        <Button variant="default" size="compact-sm" renderRoot={(p) => <Link to="/compare" search={{ runs: job.id }} {...p} />}>
          Compare
        </Button>
      )}
      <Button variant="default" size="compact-sm" renderRoot={(p) => <Link to="/submit" search={{ from: job.id }} {...p} />}>
        Clone
      </Button>
      {job.project === session?.project && (
        <>
          <Share job={job} />
          <Turn job={job} />
        </>
      )}
    </div>
  );
}

/** Stops it, or tries it again. */
function Turn({ job }: { job: JobView }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const cancel = useMutation({
    mutationFn: () => cancelJob(job.id, isTerminal(job.state)),
    onSuccess: (after) => client.setQueryData(jobQuery(job.id).queryKey, after),
    // It may have ended in between; what it is now says more than the refusal.
    onError: () => client.invalidateQueries({ queryKey: jobQuery(job.id).queryKey }),
  });
  const retry = useMutation({
    mutationFn: () => retryJob(job.id, job.dependents.length > 0),
    onSuccess: (again) => navigate({ to: "/jobs/$id", params: { id: again.id } }),
  });
  const behind = job.dependents.filter((each) => !isTerminal(each.state)).length;
  const failure = cancel.error ?? retry.error;
  return (
    <>
      {failure && <span role="alert">{problemOf(failure).detail}</span>}
      {(job.state === "failed" || job.state === "cancelled") && (
        <Confirm action="Retry" pending={retry.isPending} onConfirm={() => retry.mutate()}>
          A new job with the same inputs tries it again, from the last checkpoint while it is kept
          {job.dependents.length > 0 ? "; so do jobs that waited for it in vain." : "."}
        </Confirm>
      )}
      {!isTerminal(job.state) && (
        <Confirm action="Cancel" pending={cancel.isPending} disabled={job.cancel_requested} onConfirm={() => cancel.mutate()}>
          {job.state === "running"
            ? "The job stops at its next step. What it has made so far is not published."
            : "The job has not begun and will not."}
          {behind === 1 && " The job that waits for it ends with it."}
          {behind > 1 && " The jobs that wait for it end with it."}
        </Confirm>
      )}
      {job.state === "succeeded" && behind > 0 && (
        <Confirm action="Cancel dependents" pending={cancel.isPending} onConfirm={() => cancel.mutate()}>
          What was to be made of this job&apos;s results is not: the jobs behind it stop, at their next step where they run.
        </Confirm>
      )}
    </>
  );
}
