import { Checkbox } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { shareJob } from "../../api/jobs";
import { problemOf } from "../../api/problem";
import { jobQuery } from "../../api/queries";
import type { JobView } from "../../api/types";
import { Confirm } from "../../components/Confirm";

/** Shows a job and what it made to the whole lab, or keeps them to the project again. */
export function Share({ job }: { job: JobView }) {
  const client = useQueryClient();
  const [withInputs, setWithInputs] = useState(false);
  const shown = job.visibility === "lab";
  const share = useMutation({
    mutationFn: () => shareJob(job.id, shown ? "project" : "lab", withInputs),
    onSuccess: (after) => client.setQueryData(jobQuery(job.id).queryKey, after),
  });
  return (
    <>
      {share.error && <span role="alert">{problemOf(share.error).detail}</span>}
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
    </>
  );
}
