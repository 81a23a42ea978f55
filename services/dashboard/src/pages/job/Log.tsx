import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";

import { isTerminal, type JobView } from "../../api/types";
import { Card } from "../../components/Card";
import { Failed } from "../../components/States";
import { count } from "../../format";
import type { Feed } from "../../live/feed";
import { useJobLog } from "../../live/useJobLog";
import classes from "./Log.module.css";
import { asText, chosen, LEVELS, marked, type Level } from "./logLines";

interface Props {
  job: JobView;
  /** The event from which on `feed` tells. */
  since: number;
  feed: Feed;
}

type Place = "start" | "error";

const NEAR_END = 24;
const LINE_HEIGHT = 19;

/** The log, of which only the lines on the screen are drawn. It follows new lines until one scrolls up, and again from the end on. */
export function Log({ job, since, feed }: Props) {
  const { lines, onEarlier, reading, error, onRetry } = useJobLog(job.id, since, feed);
  const running = !isTerminal(job.state);
  const [level, setLevel] = useState<Level>("debug");
  const [text, setText] = useState("");
  const wanted = useDeferredValue(text);
  const shown = useMemo(() => chosen(lines, level, wanted), [lines, level, wanted]);
  const [following, setFollowing] = useState(true);
  const box = useRef<HTMLDivElement>(null);
  const scrolled = useRef(0);
  // eslint-disable-next-line react-hooks/incompatible-library -- nothing here is memoized by a compiler
  const rows = useVirtualizer({
    count: shown.length,
    getScrollElement: () => box.current,
    estimateSize: () => LINE_HEIGHT,
    getItemKey: (i) => shown[i]?.seq ?? i,
    overscan: 20,
  });
  useEffect(() => {
    if (following && shown.length > 0) rows.scrollToIndex(shown.length - 1, { align: "end" });
  }, [shown, following, rows]);
  const onScroll = ({ currentTarget: at }: React.UIEvent<HTMLDivElement>) => {
    const up = at.scrollTop < scrolled.current;
    scrolled.current = at.scrollTop;
    if (at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_END) setFollowing(true);
    else if (up) setFollowing(false);
  };
  const firstError = shown.findIndex((line) => line.level === "error");
  const sought = useRef<Place>(null);
  const show = (place: Place) => rows.scrollToIndex(place === "error" ? Math.max(firstError, 0) : 0, { align: "start" });
  useEffect(() => {
    if (reading || sought.current === null) return;
    show(sought.current);
    sought.current = null;
  });
  const goTo = (place: Place) => {
    setFollowing(false);
    // The first of them may be among what is still to be read.
    if (onEarlier) {
      sought.current = place;
      onEarlier();
    } else show(place);
  };
  const some = shown.length === lines.length ? count(lines.length) : `${count(shown.length)} of ${count(lines.length)}`;
  return (
    <Card title="Log" aside={`${some} ${lines.length === 1 ? "line" : "lines"}${onEarlier ? ", the latest" : ""}`} flush>
      <div className={classes.bar} role="toolbar" aria-label="Log">
        <TextInput
          className={classes.search}
          size="xs"
          type="search"
          aria-label="Search the log"
          placeholder="Search"
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
        />
        <NativeSelect
          size="xs"
          aria-label="Level"
          data={LEVELS.map((value) => ({ value, label: value === "debug" ? "all levels" : `${value} and worse` }))}
          value={level}
          onChange={(event) => setLevel(LEVELS.find((each) => each === event.currentTarget.value) ?? "debug")}
        />
        {(firstError >= 0 || onEarlier) && (
          <Button variant="default" size="compact-xs" onClick={() => goTo("error")}>
            First error
          </Button>
        )}
        {onEarlier && (
          <Button variant="default" size="compact-xs" loading={reading} onClick={() => goTo("start")}>
            From the start
          </Button>
        )}
        <Button variant="default" size="compact-xs" disabled={shown.length === 0} onClick={() => save(`${job.name}.log`, asText(shown))}>
          Download
        </Button>
        {running && (
          <Button variant={following ? "light" : "default"} size="compact-xs" aria-pressed={following} onClick={() => setFollowing(!following)}>
            {following ? "Following" : "Follow"}
          </Button>
        )}
      </div>
      {error && <Failed error={error} retry={onRetry} />}
      {onEarlier && !reading && <p className={classes.note}>Earlier lines are not loaded: neither searched, nor in the download.</p>}
      <div
        ref={box}
        className={`${classes.log} ${shown.length < 12 ? classes.short : ""} mono`}
        role="log"
        aria-label="Log"
        tabIndex={0}
        onScroll={onScroll}
      >
        {shown.length === 0 && !reading && <span className="dim">{absence(lines.length > 0, onEarlier === null, running)}</span>}
        <div className={classes.lines} style={{ height: rows.getTotalSize() }}>
          {rows.getVirtualItems().map((row) => {
            const line = shown[row.index];
            return (
              line && (
                <div
                  key={row.key}
                  ref={rows.measureElement}
                  data-index={row.index}
                  data-level={line.level}
                  className={classes.line}
                  style={{ transform: `translateY(${row.start}px)` }}
                >
                  <time dateTime={line.at}>{new Date(line.at).toLocaleTimeString("en-GB")}</time>
                  <span>{marked(line.message, wanted).map((part, i) => (i % 2 ? <mark key={i}>{part}</mark> : part))}</span>
                </div>
              )
            );
          })}
        </div>
      </div>
    </Card>
  );
}

function absence(some: boolean, whole: boolean, running: boolean): string {
  if (some) return whole ? "No line is like that." : "No line of those that are loaded is like that.";
  return running ? "Nothing logged yet." : "Nothing was logged.";
}

function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
