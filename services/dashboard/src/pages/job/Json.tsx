import { Fragment, type ReactNode } from "react";

import classes from "./job.module.css";

/** A value as JSON with its keys, texts and numbers told apart. Lists of plain values stay on one line. */
export function Json({ value }: { value: unknown }) {
  return <pre className={`${classes.json} mono`}>{render(value, 0)}</pre>;
}

function render(value: unknown, depth: number): ReactNode {
  if (typeof value === "string") return <span className={classes.text}>{JSON.stringify(value)}</span>;
  if (value === null || typeof value !== "object") return <span className={classes.number}>{String(value)}</span>;
  const pad = "  ".repeat(depth + 1);
  const end = "  ".repeat(depth);
  if (Array.isArray(value)) {
    const items: unknown[] = value;
    const flat = items.every((item) => item === null || typeof item !== "object");
    const [open, gap, close] = flat ? ["[", " ", "]"] : [`[\n${pad}`, `\n${pad}`, `\n${end}]`];
    return (
      <>
        {open}
        {items.map((item, i) => (
          <Fragment key={i}>
            {i > 0 && `,${gap}`}
            {render(item, depth + 1)}
          </Fragment>
        ))}
        {close}
      </>
    );
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return "{}";
  return (
    <>
      {"{\n"}
      {entries.map(([key, item], i) => (
        <Fragment key={key}>
          {pad}
          <span className={classes.key}>{key}</span>: {render(item, depth + 1)}
          {i < entries.length - 1 && ","}
          {"\n"}
        </Fragment>
      ))}
      {end}
      {"}"}
    </>
  );
}
