import classes from "./StateChip.module.css";

interface Props {
  state: string;
  /** Asked to stop, still running. */
  cancelling?: boolean;
}

export function StateChip({ state, cancelling = false }: Props) {
  return (
    <span className={classes.chip} data-state={state}>
      {cancelling ? "cancelling" : state}
    </span>
  );
}
