import { Checkbox } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";

import { jobsQuery } from "../../api/queries";
import type { JobSummary } from "../../api/types";
import { MOST_RUNS } from "../../charts/runs";
import { Card } from "../../components/Card";
import type { Column } from "../../components/DataTable";
import { PagedTable } from "../../components/PagedTable";
import { StateChip } from "../../components/StateChip";
import { Empty } from "../../components/States";
import { Ago } from "../../components/Time";
import classes from "./compare.module.css";

interface Props {
  chosen: readonly string[];
  onChoose: (ids: string[]) => void;
}

/** The jobs that have curves or coders to compare, newest first. */
export function RunPicker({ chosen, onChoose }: Props) {
  const query = useInfiniteQuery(jobsQuery({ state: [], kind: ["train", "import-coders"] }));
  const columns: Column<JobSummary>[] = [
    {
      title: "Compare",
      cell: (job) => (
        <Checkbox
          size="xs"
          aria-label={`Compare ${job.name}, ${job.id.slice(-4)}`}
          checked={chosen.includes(job.id)}
          disabled={!chosen.includes(job.id) && chosen.length >= MOST_RUNS}
          onChange={(event) => onChoose(event.currentTarget.checked ? [...chosen, job.id] : chosen.filter((id) => id !== job.id))}
        />
      ),
    },
    { title: "Name", cell: (job) => job.name },
    { title: "State", cell: (job) => <StateChip state={job.state} /> },
    { title: "Kind", cell: (job) => <span className="dim">{job.kind}</span> },
    { title: "Created", align: "right", cell: (job) => <Ago at={job.created_at} /> },
  ];
  return (
    <Card flush>
      <details className={classes.choose} open={chosen.length < 2 ? true : undefined}>
        <summary>
          Choose runs <span className="dim">{chosen.length} of at most {MOST_RUNS}</span>
        </summary>
        <PagedTable
          label="Runs to choose"
          query={query}
          columns={columns}
          empty={
            <Empty title="Nothing to compare yet" command="clew submit train.yaml --watch">
              Runs are jobs that train coders, or import them.
            </Empty>
          }
        />
      </details>
    </Card>
  );
}
