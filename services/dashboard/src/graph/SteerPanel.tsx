import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { api, unwrap } from "../api/client";
import { problemOf } from "../api/problem";
import { jobQuery } from "../api/queries";
import { StateChip } from "../components/StateChip";
import { ProblemBox } from "../components/States";
import { useJobFeed } from "../live/useJobFeed";
import type { Graph } from "./model";
import classes from "./panel.module.css";
import { FIRST_VALUE, isOf, MOST_TOKENS, OPERATIONS, siteName, steerResult, steerSpec, type Operation, type Site } from "./steering";
import { SteerOutcome } from "./SteerOutcome";

interface Props {
  graph: Graph;
  /** Id of the stored graph. */
  id: string;
  sites: readonly Site[];
  /** The steer job that is followed. */
  job: string | undefined;
  onJob: (job: string) => void;
}

/** Change the selected feature, and see what the model makes of it. */
export function SteerPanel({ graph, id, sites, job, onJob }: Props) {
  const client = useQueryClient();
  const [operation, setOperation] = useState<Operation>("ablate");
  const [value, setValue] = useState("");
  const [onward, setOnward] = useState(false);
  const [tokens, setTokens] = useState("20");
  const count = Number(tokens);
  const valid =
    tokens.trim() !== "" && Number.isInteger(count) && count >= 0 && count <= MOST_TOKENS &&
    (operation === "ablate" || (value.trim() !== "" && Number.isFinite(Number(value))));
  const submit = useMutation({
    mutationFn: () => {
      const spec = steerSpec(id, sites, { operation, value: Number(value), onward, tokens: count });
      return unwrap(api.POST("/api/v1/jobs", { body: { spec } }));
    },
    onSuccess: (made) => {
      client.setQueryData(jobQuery(made.id).queryKey, made);
      onJob(made.id);
    },
  });
  return (
    <details className={classes.steer} open={job !== undefined ? true : undefined}>
      <summary>Steer</summary>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          submit.mutate();
        }}
      >
        <NativeSelect
          size="xs"
          label="Change"
          data={[...OPERATIONS]}
          value={operation}
          onChange={(event) => {
            const next = OPERATIONS.find((item) => item === event.currentTarget.value) ?? "ablate";
            setOperation(next);
            setValue(String(FIRST_VALUE[next] ?? ""));
          }}
        />
        <TextInput size="xs" label="Value" type="number" step="any" value={value} disabled={operation === "ablate"} onChange={(event) => setValue(event.currentTarget.value)} />
        <NativeSelect
          size="xs"
          label="Where"
          data={[{ value: "there", label: "this position" }, { value: "onward", label: "from here on" }]}
          value={onward ? "onward" : "there"}
          onChange={(event) => setOnward(event.currentTarget.value === "onward")}
        />
        <TextInput size="xs" label="Tokens to generate" type="number" min={0} max={MOST_TOKENS} value={tokens} onChange={(event) => setTokens(event.currentTarget.value)} />
        <Button type="submit" size="xs" variant="default" disabled={!valid} loading={submit.isPending}>
          Run
        </Button>
      </form>
      {submit.isError && <ProblemBox problem={problemOf(submit.error)} />}
      {job !== undefined && <Followed key={job} graph={graph} job={job} sites={sites} />}
    </details>
  );
}

function Followed({ graph, job: id, sites }: { graph: Graph; job: string; sites: readonly Site[] }) {
  const query = useQuery(jobQuery(id));
  useJobFeed(id, query.data?.last_seq);
  if (query.isError) return <ProblemBox problem={problemOf(query.error)} />;
  const job = query.data;
  const result = steerResult(job);
  if (!job || (result && !isOf(result, sites))) return null;
  return (
    <div className={classes.followed} role="status" aria-label="Steering">
      <p>
        <StateChip state={job.state} cancelling={job.cancel_requested && job.state === "running"} />{" "}
        <Link to="/jobs/$id" params={{ id }}>
          this job
        </Link>
        {job.state === "queued" && <span className="dim"> waits for a worker</span>}
      </p>
      {job.error && <ProblemBox problem={job.error} />}
      {result && <SteerOutcome result={result} nameOf={(site) => siteName(graph, site)} />}
    </div>
  );
}
