import { Button, Skeleton, Stack } from "@mantine/core";
import type { ReactNode } from "react";

import { problemOf } from "../api/problem";
import type { Problem } from "../api/types";
import classes from "./States.module.css";

interface EmptyProps {
  title: string;
  children: ReactNode;
  /** What to type to have something here. */
  command?: string;
}

export function Empty({ title, children, command }: EmptyProps) {
  return (
    <div className={classes.state}>
      <h2>{title}</h2>
      <p>{children}</p>
      {command && <code className={`${classes.command} mono`}>{command}</code>}
    </div>
  );
}

/** An RFC 9457 problem with all it says: what, where, what was expected, what to do. */
export function ProblemBox({ problem }: { problem: Problem }) {
  const rows = [
    ["where", problem.where],
    ["expected", problem.expected],
    ["request", problem.request_id],
  ].filter((row): row is [string, string] => Boolean(row[1]));
  return (
    <div className={classes.problem} role="alert">
      <h3>{problem.title}</h3>
      <p>{problem.detail}</p>
      {rows.length > 0 && (
        <dl>
          {rows.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}=`} className="mono">{value}</dd>])}
        </dl>
      )}
      {problem.hint && <p>{problem.hint}</p>}
      {problem.errors && problem.errors.length > 1 && (
        <ul>
          {problem.errors.map((error, i) => (
            <li key={i}>
              {error.where && <span className="mono">{error.where} </span>}
              {error.detail}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

export function Failed({ error, retry }: { error: unknown; retry?: () => void }) {
  return (
    <Stack p="md" gap="sm" align="flex-start">
      <ProblemBox problem={problemOf(error)} />
      {retry && (
        <Button variant="default" size="xs" onClick={retry}>
          Try again
        </Button>
      )}
    </Stack>
  );
}

export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <Stack p="md" gap={12} role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <Skeleton key={i} height={16} width={`${92 - ((i * 17) % 40)}%`} />
      ))}
    </Stack>
  );
}
