import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import type { JobView, LinkedJob } from "../../api/types";
import { Card, Facts } from "../../components/Card";

/** What the job came with, waits for, and was tried again by. */
export function Links({ job }: { job: JobView }) {
  const rows: [string, ReactNode][] = [];
  if (job.batch) {
    rows.push([
      job.batch.kind,
      <Link key="batch" to="/" search={{ batch: job.batch.id }}>
        {job.batch.name}
      </Link>,
    ]);
    rows.push([job.batch.kind === "sweep" ? "changes" : "named", job.batch.step]);
  }
  const sorts: [string, LinkedJob[]][] = [
    ["depends on", job.depends_on],
    ["needed by", job.dependents],
    ["tries again", job.retry_of ? [job.retry_of] : []],
    ["tried again by", job.retries],
  ];
  for (const [title, jobs] of sorts) {
    if (jobs.length > 0) rows.push([title, <Jobs key={title} jobs={jobs} />]);
  }
  if (rows.length === 0) return null;
  return (
    <Card title="Belongs to">
      <Facts rows={rows} />
    </Card>
  );
}

function Jobs({ jobs }: { jobs: LinkedJob[] }) {
  return jobs.map((job, index) => (
    <span key={job.id}>
      {index > 0 && ", "}
      <Link to="/jobs/$id" params={{ id: job.id }}>
        {job.kind} {job.name}
      </Link>{" "}
      <span className="dim">{job.state}</span>
    </span>
  ));
}
