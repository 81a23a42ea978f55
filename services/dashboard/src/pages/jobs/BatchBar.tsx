import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { cancelBatch, retryBatch } from "../../api/jobs";
import { problemOf } from "../../api/problem";
import { batchQuery, living } from "../../api/queries";
import { JOB_STATES, type BatchView } from "../../api/types";
import { Confirm } from "../../components/Confirm";
import classes from "../Jobs.module.css";

/** The sweep or pipeline whose jobs are shown, and what one can do with it as a whole. */
export function BatchBar({ id }: { id: string }) {
  const client = useQueryClient();
  const { data: batch, error } = useQuery(batchQuery(id));
  const act = useMutation({
    mutationFn: (one: (id: string) => Promise<BatchView>) => one(id),
    onSuccess: (after) => {
      client.setQueryData(batchQuery(id).queryKey, after);
      void client.invalidateQueries({ queryKey: ["jobs"] });
    },
  });
  const failure = act.error ?? error;
  const alive = batch ? living(batch) : 0;
  const again = (batch?.states.failed ?? 0) + (batch?.states.cancelled ?? 0);
  return (
    <div className={classes.batch} role="toolbar" aria-label="Sweep or pipeline">
      {batch && (
        <span>
          {batch.kind} <strong>{batch.name}</strong>: {JOB_STATES.filter((state) => batch.states[state]).map((state) => `${batch.states[state]} ${state}`).join(", ")}
        </span>
      )}
      {alive > 0 && (
        <Confirm action="Cancel all" pending={act.isPending} onConfirm={() => act.mutate(cancelBatch)}>
          {alive === 1 ? "One job stops" : `${alive} jobs stop`} at the next step. What was made so far is not published.
        </Confirm>
      )}
      {again > 0 && (
        <Confirm action="Retry failed" pending={act.isPending} onConfirm={() => act.mutate(retryBatch)}>
          {again === 1 ? "The job that failed or was cancelled is" : `The ${again} jobs that failed or were cancelled are`} tried again, from the last checkpoint while it is kept.
        </Confirm>
      )}
      {failure && <span role="alert">{problemOf(failure).detail}</span>}
      <Button variant="subtle" size="compact-sm" renderRoot={(p) => <Link to="/" search={(now) => ({ ...now, batch: undefined })} {...p} />}>
        Show all jobs
      </Button>
    </div>
  );
}
