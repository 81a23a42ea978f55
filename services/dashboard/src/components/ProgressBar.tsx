import { isTerminal, type JobState, type ProgressView } from "../api/types";
import { duration, NONE, percent, short } from "../format";
import classes from "./ProgressBar.module.css";

interface Props {
  progress: ProgressView | null;
  state: JobState;
  label: string;
  big?: boolean;
}

const WAITS: Partial<Record<JobState, string>> = { queued: "waiting for a worker", blocked: "waiting for other jobs" };

/** How far a job is, how fast it goes and when it will be there; where it ended, for a finished one. */
export function ProgressBar({ progress, state, label, big = false }: Props) {
  if (!progress) return <span className="dim">{WAITS[state] ?? NONE}</span>;
  // The last word of a job that succeeded may have come before its last step was done.
  const done = state === "succeeded" ? progress.total : progress.done;
  const share = state === "succeeded" ? 1 : progress.total > 0 ? Math.min(1, done / progress.total) : 0;
  const left = big
    ? `${progress.phase} · ${short(done)} of ${short(progress.total)} ${progress.unit}`
    : `${progress.phase} ${percent(share, 0)}`;
  return (
    <div className={`${classes.cell} ${big ? classes.big : ""}`}>
      <div
        className={classes.track}
        role="progressbar"
        aria-label={`${label}: ${progress.phase}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(100 * share)}
      >
        <div className={classes.fill} data-state={state} style={{ width: `${100 * share}%` }} />
      </div>
      <div className={classes.line}>
        <span>{left}</span>
        <span>{pace(progress, state)}</span>
      </div>
    </div>
  );
}

function pace(progress: ProgressView, state: JobState): string {
  if (isTerminal(state)) return "";
  const parts: string[] = [];
  if (progress.rate !== null) parts.push(`${short(progress.rate)} ${progress.unit}/s`);
  if (progress.eta_s !== null) parts.push(`${duration(progress.eta_s)} left`);
  return parts.join(" · ");
}
