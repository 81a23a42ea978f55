import type { Standing } from "../api/types";
import { ago, count, duration } from "../format";
import { useNow } from "./useNow";

/** Where a waiting job stands and why it waits, and how old that is. */
export function StandingNote({ standing, big = false }: { standing: Standing; big?: boolean }) {
  const now = useNow(1000);
  const place = `${count(standing.position)}${ordinal(standing.position)} in line`;
  const eta = standing.eta_s === null ? "" : standing.eta_s < 1 ? ", starts now" : `, starts in about ${duration(standing.eta_s)}`;
  const age = ago(standing.at, now);
  const why = `${standing.reason.charAt(0).toUpperCase()}${standing.reason.slice(1)}.`;
  if (big) {
    return (
      <p style={{ margin: 0, lineHeight: 1.5 }}>
        <b>
          {place}
          {eta}
        </b>
        <br />
        {why} <span className="dim">As the scheduler saw it {age}.</span>
      </p>
    );
  }
  return (
    <span title={`${why} As of ${age}.`}>
      {place}
      {eta}
      <br />
      <span className="dim">
        {why} Seen {age}.
      </span>
    </span>
  );
}

function ordinal(n: number): string {
  if (n % 100 >= 11 && n % 100 <= 13) return "th";
  return ["th", "st", "nd", "rd"][n % 10] ?? "th";
}
