import type { ReactNode } from "react";

import classes from "./Card.module.css";

interface CardProps {
  title?: string;
  aside?: ReactNode;
  /** No padding, as for tables. */
  flush?: boolean;
  children: ReactNode;
}

export function Card({ title, aside, flush = false, children }: CardProps) {
  return (
    <section className={classes.card} aria-label={title}>
      {title && (
        <header className={classes.head}>
          <h2>{title}</h2>
          {aside && <span className="dim">{aside}</span>}
        </header>
      )}
      <div className={flush ? (title ? classes.flush : undefined) : classes.body}>{children}</div>
    </section>
  );
}

export function PageTitle({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className={classes.title}>
      <h1>{title}</h1>
      {children}
    </div>
  );
}

export function Facts({ rows }: { rows: [string, ReactNode][] }) {
  return (
    <dl className={classes.facts}>
      {rows.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}=`}>{value}</dd>])}
    </dl>
  );
}
