import { Popover, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { healthQuery, workersQuery } from "../api/queries";
import type { Health, WorkerView } from "../api/types";
import { bytes, duration } from "../format";
import classes from "./LabStrip.module.css";

/** Health and workers in one line; the parts on click. */
export function LabStrip() {
  const health = useQuery(healthQuery);
  const workers = useQuery(workersQuery);
  const busy = workers.data?.filter((worker) => worker.job_id !== null).length ?? 0;
  const total = workers.data?.length ?? 0;
  const down = Object.entries(health.data?.components ?? {}).filter(([, part]) => !part.ok);
  const ok = health.data?.ok === true && !health.isError;
  const known = health.data !== undefined || health.isError;
  const says = !known ? "…" : health.isError ? "lab does not answer" : ok ? "healthy" : down.map(([name]) => name).join(", ") + " down";
  const work = !workers.data ? "…" : total === 0 ? "no workers" : `${busy} of ${total} workers busy`;
  return (
    <Popover position="bottom-end" width={330} shadow="md" trapFocus>
      <Popover.Target>
        <UnstyledButton className={classes.strip} aria-label={`Lab: ${says}, ${work}`}>
          <span className={classes.dot} data-tone={known ? (ok ? "good" : "bad") : "idle"} />
          <span>{says}</span>
          <span aria-hidden="true">·</span>
          <span>{work}</span>
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown className={classes.panel}>
        <Components health={health.data} />
        <h3>Workers</h3>
        <Workers workers={workers.data ?? []} />
      </Popover.Dropdown>
    </Popover>
  );
}

function Components({ health }: { health: Health | undefined }) {
  if (!health) return <p>The API does not answer. Is the lab running? `clew status` tells.</p>;
  return (
    <>
      <h3>Clew {health.version}</h3>
      <ul className={classes.list}>
        {Object.entries(health.components).map(([name, part]) => (
          <li key={name}>
            <span className={classes.dot} data-tone={part.ok ? "good" : "bad"} />
            <span>{name}</span>
            <span className="dim">{part.detail ?? (part.ok ? "ok" : "down")}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

function Workers({ workers }: { workers: WorkerView[] }) {
  if (workers.length === 0) return <p>None is alive, so jobs wait. Start one with `clew up`.</p>;
  return (
    <ul className={classes.list}>
      {workers.map((worker) => (
        <li key={worker.name}>
          <span className={classes.dot} data-tone={worker.draining || silent(worker) ? "warn" : worker.job_id ? "busy" : "idle"} />
          <span title={`${worker.device}, ${bytes(worker.memory_bytes)}, heard ${duration(worker.beat_age_s)} ago`}>
            {worker.name} <span className="dim">{worker.pool}</span>
          </span>
          {worker.job_id ? (
            <Link to="/jobs/$id" params={{ id: worker.job_id }}>
              {mood(worker)}
            </Link>
          ) : (
            <span className="dim">{mood(worker)}</span>
          )}
        </li>
      ))}
    </ul>
  );
}

const SILENT_S = 45;

function silent(worker: WorkerView): boolean {
  return worker.beat_age_s > SILENT_S;
}

function mood(worker: WorkerView): string {
  if (silent(worker)) return `silent for ${duration(worker.beat_age_s)}`;
  if (worker.draining) return "draining";
  return worker.job_id ? "busy" : "idle";
}
