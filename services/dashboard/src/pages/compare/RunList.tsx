import { ActionIcon, useComputedColorScheme } from "@mantine/core";
import { Link } from "@tanstack/react-router";

import { hue } from "../../charts/palette";
import type { Run } from "../../charts/runs";
import { Close } from "../../components/icons";
import classes from "./compare.module.css";

export function RunList({ runs, onRemove }: { runs: readonly Run[]; onRemove: (id: string) => void }) {
  const dark = useComputedColorScheme("light") === "dark";
  if (runs.length === 0) return null;
  return (
    <ul className={classes.runs} aria-label="Runs">
      {runs.map((run, i) => (
        <li key={run.id}>
          <i className={classes.swatch} style={{ background: hue(i, runs.length, dark) }} />
          <Link to="/jobs/$id" params={{ id: run.id }}>
            {run.label}
          </Link>
          <ActionIcon size="xs" variant="subtle" color="gray" aria-label={`Leave out ${run.label}`} onClick={() => onRemove(run.id)}>
            <Close />
          </ActionIcon>
        </li>
      ))}
    </ul>
  );
}
