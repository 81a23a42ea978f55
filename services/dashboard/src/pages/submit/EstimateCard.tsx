import type { EstimateView } from "../../api/types";
import { Card, Facts } from "../../components/Card";
import { bytes, duration, short } from "../../format";
import classes from "./submit.module.css";

interface Props {
  estimate: EstimateView | undefined;
  asking: boolean;
  /** Fields without which nothing can be said. */
  lacking: number;
}

/** What the job would take, as far as that can be said, and which workers have it. */
export function EstimateCard({ estimate, asking, lacking }: Props) {
  return (
    <Card title="What it would take" aside={asking ? "asking" : undefined}>
      <div role="status" aria-label="Estimate">
        {lacking > 0 ? (
          <span className="dim">
            {lacking === 1 ? "One field is" : `${lacking} fields are`} still to be filled in.
          </span>
        ) : estimate ? (
          <Known view={estimate} />
        ) : (
          <span className="dim">{asking ? "…" : "Nothing can be said of a job that would be refused."}</span>
        )}
      </div>
    </Card>
  );
}

function Known({ view }: { view: EstimateView }) {
  const { memory, memory_bytes, disk_bytes, time_s, tokens, unknown = {} } = view.estimate;
  const fitting = view.workers.filter((worker) => worker.fits).length;
  const rows: [string, string][] = [
    ["memory", memory_bytes != null ? `${bytes(memory_bytes)}${memory ? `, ${memory.moment}` : ""}` : notKnown(unknown.memory)],
    ["disk", disk_bytes != null ? bytes(disk_bytes) : notKnown(unknown.disk)],
    ["time", time_s ? `${duration(time_s.low)} to ${duration(time_s.high)}` : notKnown(unknown.time_s)],
  ];
  if (tokens != null) rows.push(["tokens", short(tokens)]);
  rows.push(["workers", view.workers.length === 0 ? "none is alive" : `${fitting} of ${view.workers.length} have the memory`]);
  return (
    <>
      <Facts rows={rows} />
      {memory && memory.parts.length > 1 && (
        <details>
          <summary className="dim">where the memory goes</summary>
          <ul className={classes.parts}>
            {memory.parts.map((part) => (
              <li key={part.name}>
                <span>{part.name}</span>
                <span>{bytes(part.bytes)}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
      {view.reason && <p className={view.fits ? classes.note : classes.tight}>{view.reason}</p>}
    </>
  );
}

function notKnown(reason: string | undefined): string {
  return reason ? `not known: ${reason}` : "not known";
}
