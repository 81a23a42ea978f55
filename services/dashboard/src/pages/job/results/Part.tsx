import type { ReactNode } from "react";

import classes from "./results.module.css";

/** One of several things that a job found, under a heading of its own. */
export function Part({ title, aside, children }: { title: string; aside?: string; children: ReactNode }) {
  return (
    <div>
      <h3 className={classes.part}>
        {title}
        {aside && <span>{aside}</span>}
      </h3>
      {children}
    </div>
  );
}

/** As the command line names a feature. */
export function Feature({ layer, feature }: { layer: number; feature: number }) {
  return (
    <span className="mono nowrap">
      L{layer}/F{feature}
    </span>
  );
}
