import { Button, Checkbox } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { cancelJob, retryJob, shareJob } from "../../api/jobs";
import { problemOf } from "../../api/problem";
import { jobQuery } from "../../api/queries";
import { isTerminal, type JobView } from "../../api/types";
import { Confirm } from "../../components/Confirm";
import classes from "./job.module.css";

/** What one can do with a job: ask for one like it, watch it beside others, show it to others, stop it. */
export function Actions({ job }: { job: JobView }) {
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
  const [withInputs, setWithInputs] = useState(false);
  const shown = job.visibility === "lab";
  const share = useMutation({
    mutationFn: () => shareJob(job.id, shown ? "project" : "lab", withInputs),
    onSuccess: (after) => client.setQueryData(jobQuery(job.id).queryKey, after),
  });
  const behind = job.dependents.filter((each) => !isTerminal(each.state)).length;
  const failure = cancel.error ?? retry.error ?? share.error;
  return (
    <div className={classes.actions}>
      {failure && <span role="alert">{problemOf(failure).detail}</span>}
      {job.kind === "train" && (
        <Button variant="default" size="compact-sm" renderRoot={(p) => <Link to="/compare" search={{ runs: job.id }} {...p} />}>
          Compare
        </Button>
      )}
      <Button variant="default" size="compact-sm" renderRoot={(p) => <Link to="/submit" search={{ from: job.id }} {...p} />}>
        Clone
      </Button>
      <Confirm action={shown ? "Keep to the project" : "Share"} pending={share.isPending} onConfirm={() => share.mutate()}>
        {shown
          ? "Other projects no longer see the job and what it made. What they were given to use meanwhile they keep using."
          : "All of the lab may read the job, its log and what it made, and use that in jobs of their own."}
        {(job.parents.length > 0 || job.depends_on.length > 0) && (
          <Checkbox
            size="xs"
            mt="xs"
            label="So with what it was made of"
            checked={withInputs}
            onChange={(event) => setWithInputs(event.currentTarget.checked)}
          />
        )}
      </Confirm>
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
    </div>
  );
}
