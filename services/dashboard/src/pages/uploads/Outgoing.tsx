import { Button } from "@mantine/core";
import { useSyncExternalStore } from "react";

import { problemOf } from "../../api/problem";
import type { ProgressView } from "../../api/types";
import { Card } from "../../components/Card";
import { ProgressBar } from "../../components/ProgressBar";
import { ProblemBox } from "../../components/States";
import { bytes } from "../../format";
import { outbox, type Sending } from "../../uploads/outbox";
import { Use } from "./Use";
import classes from "./uploads.module.css";

/** What this tab sends, and how far it is. */
export function Outgoing({ onSent }: { onSent: () => void }) {
  const list = useSyncExternalStore(outbox.subscribe, outbox.list);
  if (list.length === 0) return null;
  return (
    <Card title="From this tab">
      <ul className={classes.outgoing}>
        {list.map((sending) => (
          <li key={sending.id} aria-label={sending.name}>
            <div className={classes.head}>
              <b>{sending.name}</b>
              <span className="dim">{bytes(sending.size)}</span>
              <span className={classes.end}>
                {sending.upload && <Use upload={sending.upload} />}
                {sending.state === "failed" && (
                  <Button size="compact-sm" variant="default" onClick={() => void outbox.retry(sending.id).then(onSent)}>
                    Go on
                  </Button>
                )}
                <Button size="compact-sm" variant="subtle" onClick={() => outbox.remove(sending.id)}>
                  {sending.state === "sent" || sending.state === "failed" ? "Clear" : "Stop"}
                </Button>
              </span>
            </div>
            {sending.state === "failed" ? <ProblemBox problem={problemOf(sending.error)} /> : <Far sending={sending} />}
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Far({ sending: { state, size, done, rate, name } }: { sending: Sending }) {
  const sent = state === "sent";
  const progress: ProgressView = {
    phase: sent ? "sent" : state,
    done: sent ? size : done,
    total: size,
    unit: "bytes",
    rate,
    eta_s: rate ? (size - done) / rate : null,
    at: new Date().toISOString(),
  };
  return <ProgressBar progress={progress} state={sent ? "succeeded" : "running"} label={name} big />;
}
