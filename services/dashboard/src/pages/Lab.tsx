import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { labQuery } from "../api/queries";
import type { PoolView, ProjectShare, WorkerView } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import { DataTable, type Column } from "../components/DataTable";
import { Empty, Failed, Loading } from "../components/States";
import { Ago } from "../components/Time";
import { bytes, count, duration, NONE, percent } from "../format";
import classes from "./Lab.module.css";

const POOLS: Column<PoolView>[] = [
  { title: "Pool", cell: (pool) => pool.pool },
  { title: "Workers", align: "right", cell: (pool) => pool.workers },
  { title: "Busy", align: "right", cell: (pool) => pool.busy },
  { title: "Waiting jobs", align: "right", cell: (pool) => count(pool.waiting) },
  { title: "Counted", align: "right", cell: (pool) => (pool.at ? <Ago at={pool.at} /> : NONE) },
];

const WORKERS: Column<WorkerView>[] = [
  { title: "Worker", cell: (worker) => worker.name },
  { title: "Pool", cell: (worker) => worker.pool },
  { title: "Device", cell: (worker) => worker.device },
  { title: "Memory", align: "right", cell: (worker) => (worker.memory_bytes > 0 ? bytes(worker.memory_bytes) : "not known") },
  { title: "CPUs", align: "right", cell: (worker) => worker.cpus || "not known" },
  { title: "Heard", align: "right", cell: (worker) => `${duration(worker.beat_age_s)} ago` },
  {
    title: "Does",
    cell: (worker) =>
      worker.job_id ? (
        <Link to="/jobs/$id" params={{ id: worker.job_id }}>
          a job
        </Link>
      ) : (
        <span className="dim">{worker.draining ? "draining" : "nothing you may see"}</span>
      ),
  },
];

const PROJECTS: Column<ProjectShare>[] = [
  { title: "Project", cell: (project) => project.project },
  { title: "Weight", align: "right", cell: (project) => project.weight },
  { title: "Used", align: "right", help: "Time of workers; each second counts half after seven days", cell: (project) => duration(project.used_s) },
  { title: "Used of its share", cell: (project) => <Share project={project} /> },
  { title: "In flight", align: "right", help: "Jobs that workers have, of its quota", cell: (project) => quota(project.in_flight, project.max_in_flight, String) },
  { title: "Waiting", align: "right", cell: (project) => count(project.waiting) },
  {
    title: "Stored",
    align: "right",
    help: "Published files, of its quota",
    cell: (project) => (project.stored_bytes === null ? NONE : quota(project.stored_bytes, project.max_stored_bytes, bytes)),
  },
];

/** Who works in the lab, and who gets how much of it. */
export default function Lab() {
  const query = useQuery(labQuery);
  if (query.isPending) return <Loading />;
  if (!query.data) return <Failed error={query.error} retry={() => void query.refetch()} />;
  const { pools, workers, projects } = query.data;
  return (
    <>
      <PageTitle title="Lab" />
      <div className={classes.stack}>
        <Card title="Shares" aside="a project that used less than its share goes first" flush>
          <DataTable label="Shares" columns={PROJECTS} rows={projects} rowKey={(project) => project.project} />
        </Card>
        <Card title="Pools" flush>
          <DataTable label="Pools" columns={POOLS} rows={pools} rowKey={(pool) => pool.pool} />
        </Card>
        <Card title="Workers" flush>
          {workers.length === 0 ? (
            <Empty title="No worker is alive" command="clew up">
              Jobs wait until one is.
            </Empty>
          ) : (
            <DataTable label="Workers" columns={WORKERS} rows={workers} rowKey={(worker) => worker.name} />
          )}
        </Card>
      </div>
    </>
  );
}

/** What was used as a bar, and a mark where the share is. */
function Share({ project: { project, share, used_share } }: { project: ProjectShare }) {
  const words = `used ${percent(used_share)}, its share is ${percent(share)}`;
  return (
    <div className={classes.share}>
      <div className={classes.track} role="img" aria-label={`${project} ${words}`} title={words}>
        <i className={classes.used} data-over={used_share > share || undefined} style={{ width: `${100 * used_share}%` }} />
        <i className={classes.mark} style={{ left: `${100 * share}%` }} />
      </div>
      <span className="dim nowrap">
        {percent(used_share, 0)} of {percent(share, 0)}
      </span>
    </div>
  );
}

function quota(now: number, most: number | null, write: (n: number) => string): string {
  return most === null ? write(now) : `${write(now)} of ${write(most)}`;
}
