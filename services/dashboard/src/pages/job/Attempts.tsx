import type { AttemptView } from "../../api/types";
import { Card } from "../../components/Card";
import { StateChip } from "../../components/StateChip";
import { Elapsed } from "../../components/Time";
import classes from "./job.module.css";

/** Every time the job was given to a worker, newest first, and why it ended. */
export function Attempts({ attempts }: { attempts: AttemptView[] }) {
  if (attempts.length === 0) return null;
  const newest = [...attempts].sort((a, b) => b.fence - a.fence);
  return (
    <Card title="Attempts" aside={attempts.length > 1 ? attempts.length : undefined}>
      <ol className={classes.attempts}>
        {newest.map((attempt) => (
          <li key={attempt.fence}>
            <div className={classes.attempt}>
              <span className="dim mono">#{attempt.fence}</span>
              <StateChip state={attempt.outcome ?? (attempt.started_at ? "running" : "dispatched")} />
              <span className="dim">{attempt.worker ?? ""}</span>
              <Elapsed start={attempt.started_at} end={attempt.ended_at} />
            </div>
            {attempt.error && <span className="dim">{attempt.error.detail}</span>}
          </li>
        ))}
      </ol>
    </Card>
  );
}
