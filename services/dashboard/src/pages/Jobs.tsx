import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";

import { jobsQuery, type JobFilter } from "../api/queries";
import { JOB_KINDS, JOB_STATES, type JobKind, type JobState, type JobSummary } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import type { Column } from "../components/DataTable";
import { PagedTable } from "../components/PagedTable";
import { ProgressBar } from "../components/ProgressBar";
import { StateChip } from "../components/StateChip";
import { Empty } from "../components/States";
import { Ago, Elapsed } from "../components/Time";
import classes from "./Jobs.module.css";

const route = getRouteApi("/lab/");

const COLUMNS: Column<JobSummary>[] = [
  { title: "State", cell: (job) => <StateChip state={job.state} cancelling={job.cancel_requested && job.state === "running"} /> },
  {
    title: "Name",
    cell: (job) => (
      <Link to="/jobs/$id" params={{ id: job.id }} data-row>
        {job.name}
      </Link>
    ),
  },
  { title: "Kind", cell: (job) => <span className="dim nowrap">{job.kind}</span> },
  {
    title: "Progress",
    cell: (job) =>
      job.error ? (
        <span className={classes.error} title={job.error.detail}>
          {job.error.detail}
        </span>
      ) : (
        <ProgressBar progress={job.progress} state={job.state} label={job.name} />
      ),
  },
  { title: "Priority", cell: (job) => <span className="dim">{job.priority}</span> },
  { title: "Created", align: "right", cell: (job) => <Ago at={job.created_at} /> },
  {
    title: "Duration",
    align: "right",
    cell: (job) => <Elapsed start={job.started_at} end={job.finished_at} />,
  },
];

export default function Jobs() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const filter: JobFilter = {
    state: (search.state?.split(",") ?? []) as JobState[],
    kind: (search.kind?.split(",") ?? []) as JobKind[],
  };
  const query = useInfiniteQuery(jobsQuery(filter));
  const filtered = filter.state.length + filter.kind.length > 0;
  const toggle = (name: "state" | "kind", value: string) => {
    const now: string[] = filter[name];
    const next = now.includes(value) ? now.filter((item) => item !== value) : [...now, value];
    void navigate({ search: { ...search, [name]: next.join(",") || undefined }, replace: true });
  };
  return (
    <>
      <PageTitle title="Jobs" />
      <div className={classes.bar} role="toolbar" aria-label="Filters">
        <Filters all={JOB_STATES} chosen={filter.state} onToggle={(value) => toggle("state", value)} label="State" />
        <Filters all={JOB_KINDS} chosen={filter.kind} onToggle={(value) => toggle("kind", value)} label="Kind" />
      </div>
      <Card flush>
        <PagedTable
          label="Jobs"
          query={query}
          columns={COLUMNS}
          empty={
            filtered ? (
              <Empty title="No job matches these filters">Take a filter away to see more.</Empty>
            ) : (
              <Empty title="No jobs yet" command="clew submit job.yaml --watch">
                Import a model, build a dataset, train coders, then trace a prompt. Submit the first job from a terminal; it
                appears here by itself.
              </Empty>
            )
          }
        />
      </Card>
    </>
  );
}

interface FiltersProps {
  label: string;
  all: readonly string[];
  chosen: readonly string[];
  onToggle: (value: string) => void;
}

function Filters({ label, all, chosen, onToggle }: FiltersProps) {
  return (
    <div className={classes.group} role="group" aria-label={label}>
      {all.map((value) => (
        <button
          key={value}
          type="button"
          className={classes.filter}
          aria-pressed={chosen.includes(value)}
          onClick={() => onToggle(value)}
        >
          {value}
        </button>
      ))}
    </div>
  );
}
