import { Button, Checkbox } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";

import { jobsQuery, sessionQuery, type JobFilter } from "../api/queries";
import { JOB_KINDS, JOB_STATES, type JobKind, type JobState, type JobSummary } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import type { Column } from "../components/DataTable";
import { LongTable } from "../components/LongTable";
import { ProgressBar } from "../components/ProgressBar";
import { StandingNote } from "../components/StandingNote";
import { StateChip } from "../components/StateChip";
import { Empty, Failed, Loading } from "../components/States";
import { Ago, Elapsed } from "../components/Time";
import { Whose } from "../components/Whose";
import { BatchBar } from "./jobs/BatchBar";
import { Bulk } from "./jobs/Bulk";
import { SavedViews } from "./jobs/SavedViews";
import classes from "./Jobs.module.css";

const route = getRouteApi("/lab/");

/** Stands for the reader in the URL, so that a view that is passed on shows everyone their own. */
const ME = "me";

const COLUMNS: Column<JobSummary>[] = [
  { title: "State", cell: (job) => <StateChip state={job.state} cancelling={job.cancel_requested && job.state === "running"} /> },
  {
    title: "Name",
    cell: (job) => (
      <>
        <Link to="/jobs/$id" params={{ id: job.id }} data-row>
          {job.name}
        </Link>
        <Whose of={job} />
        {job.batch && (
          <Link to="/" search={{ batch: job.batch.id }} className={`dim ${classes.step}`} title={`${job.batch.step}, of the ${job.batch.kind} ${job.batch.name}`}>
            {job.batch.step}
          </Link>
        )}
      </>
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
      ) : job.state === "queued" && job.standing ? (
        <StandingNote standing={job.standing} />
      ) : (
        <ProgressBar progress={job.progress} state={job.state} label={job.name} />
      ),
  },
  {
    title: "By",
    cell: (job) =>
      job.user !== null && (
        <Link to="/" search={(now) => ({ ...now, user: job.user ?? undefined })} className="dim nowrap">
          {job.user}
        </Link>
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
  const { data: session } = useQuery(sessionQuery);
  const filter: JobFilter = {
    state: (search.state?.split(",") ?? []) as JobState[],
    kind: (search.kind?.split(",") ?? []) as JobKind[],
    user: search.user === ME ? (session?.user ?? ME) : search.user,
    batch: search.batch,
  };
  const query = useInfiniteQuery(jobsQuery(filter));
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  const toggle = (name: "state" | "kind", value: string) => {
    const now: string[] = filter[name];
    const next = now.includes(value) ? now.filter((item) => item !== value) : [...now, value];
    void navigate({ search: { ...search, [name]: next.join(",") || undefined }, replace: true });
  };
  return (
    <>
      <PageTitle title="Jobs">
        <SavedViews search={search} />
        <Button ml="auto" size="compact-sm" renderRoot={(p) => <Link to="/submit" {...p} />}>
          New job
        </Button>
      </PageTitle>
      <div className={classes.bar} role="toolbar" aria-label="Filters">
        <Filters all={JOB_STATES} chosen={filter.state} onToggle={(value) => toggle("state", value)} label="State" />
        <Filters all={JOB_KINDS} chosen={filter.kind} onToggle={(value) => toggle("kind", value)} label="Kind" />
        <Filters
          all={[ME, search.user ?? ME].filter((user, i, all) => all.indexOf(user) === i)}
          chosen={search.user === undefined ? [] : [search.user]}
          onToggle={(user) => void navigate({ search: { ...search, user: user === search.user ? undefined : user }, replace: true })}
          label="By"
          shown={(user) => (user === ME ? "Mine" : user)}
        />
      </div>
      {filter.batch !== undefined && <BatchBar id={filter.batch} />}
      <Bulk chosen={rows.filter((job) => chosen.has(job.id))} onClear={() => setChosen(new Set())} />
      <Card flush>
        {query.isPending ? (
          <Loading />
        ) : // What was fetched before stays on the screen while the lab is away.
        !query.data ? (
          <Failed error={query.error} retry={() => void query.refetch()} />
        ) : rows.length > 0 ? (
          <LongTable label="Jobs" query={query} columns={[choice(rows, chosen, setChosen), ...COLUMNS]} />
        ) : filter.state.length + filter.kind.length > 0 || (filter.user ?? filter.batch) !== undefined ? (
          <Empty title="No job matches these filters">Take a filter away to see more.</Empty>
        ) : (
          <Empty title="No jobs yet" command="clew submit job.yaml --watch">
            Import a model, build a dataset, train coders, then trace a prompt. Submit the first job here or from a terminal; it
            appears by itself.
          </Empty>
        )}
      </Card>
    </>
  );
}

/** A column of boxes to choose jobs by, and one for all that are loaded. */
function choice(rows: readonly JobSummary[], chosen: ReadonlySet<string>, onChoose: (ids: ReadonlySet<string>) => void): Column<JobSummary> {
  const all = rows.every((job) => chosen.has(job.id));
  return {
    title: "Choose",
    head: (
      <Checkbox
        size="xs"
        aria-label="Choose all that are loaded"
        checked={all}
        indeterminate={!all && rows.some((job) => chosen.has(job.id))}
        onChange={() => onChoose(new Set(all ? [] : rows.map((job) => job.id)))}
      />
    ),
    // The browser's own: there are many of them, and each of Mantine's is a dozen elements and hooks.
    cell: (job) => (
      <input
        type="checkbox"
        className={classes.choose}
        aria-label={`Choose ${job.name}`}
        checked={chosen.has(job.id)}
        onChange={(event) => {
          const next = new Set(chosen);
          if (event.currentTarget.checked) next.add(job.id);
          else next.delete(job.id);
          onChoose(next);
        }}
      />
    ),
  };
}

interface FiltersProps {
  label: string;
  all: readonly string[];
  chosen: readonly string[];
  onToggle: (value: string) => void;
  shown?: (value: string) => string;
}

function Filters({ label, all, chosen, onToggle, shown = (value) => value }: FiltersProps) {
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
          {shown(value)}
        </button>
      ))}
    </div>
  );
}
