import type { AttemptView } from "../../api/types";
import { Card } from "../../components/Card";
import { StateChip } from "../../components/StateChip";
import { Ago, Elapsed } from "../../components/Time";
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
            <span className="dim">
              {attempt.started_at && (
                <>
                  began <Ago at={attempt.started_at} />
                  {". "}
                </>
              )}
              {why(attempt)}
            </span>
          </li>
        ))}
      </ol>
    </Card>
  );
}

/** Why it ended, as far as the lab knows. */
function why({ outcome, error }: AttemptView): string {
  const told = error ? [error.detail, error.hint].filter(Boolean).join(" ") : "";
  switch (outcome) {
    case "lost":
      return `The worker was not heard of in time; the job goes on from its last checkpoint. ${told}`;
    case "preempted":
      return `It made room for more urgent work; the job goes on from its last checkpoint. ${told}`;
    case "cancelled":
      return `It was asked to stop. ${told}`;
    default:
      return told;
  }
}
