import { signed } from "../format";
import classes from "./Weight.module.css";

/** A signed number after a bar as long as its share of the largest beside it. */
export function Weight({ value, largest }: { value: number; largest: number }) {
  const share = largest > 0 ? Math.min(1, Math.abs(value) / largest) : 0;
  return (
    <span className={classes.weight}>
      <span className={classes.bar}>
        <i data-sign={value < 0 ? "-" : "+"} style={{ width: `${100 * share}%` }} />
      </span>
      {signed(value)}
    </span>
  );
}

/** The length of the longest bar. */
export function largestOf(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}
