import { useEffect, useRef, useState } from "react";

import { Card } from "../../components/Card";
import type { LogLine } from "../../live/feed";
import classes from "./job.module.css";

const NEAR_END = 24;

/** The end of the log. It follows new lines until one scrolls up, and again from the end on. */
export function Log({ lines, running }: { lines: LogLine[]; running: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const [following, setFollowing] = useState(true);
  useEffect(() => {
    if (following && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, following]);
  return (
    <Card title="Log" aside={running && lines.length > 0 ? (following ? "following" : "paused: scroll to the end to follow") : undefined} flush>
      <div
        ref={box}
        className={`${classes.log} mono`}
        role="log"
        aria-label="Log"
        tabIndex={0}
        onScroll={({ currentTarget: at }) => setFollowing(at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_END)}
      >
        {lines.length === 0 && <span className="dim">{running ? "Nothing logged yet." : "Nothing was logged."}</span>}
        {lines.map((line) => (
          <div key={line.seq} data-level={line.level}>
            <time dateTime={line.at}>{new Date(line.at).toLocaleTimeString("en-GB")}</time>
            <span>{line.message}</span>
          </div>
        ))}
      </div>
    </Card>
  );
}
