import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";

import { Card } from "../../components/Card";
import { count } from "../../format";
import type { LogLine } from "../../live/feed";
import classes from "./Log.module.css";
import { asText, chosen, LEVELS, marked, type Level } from "./logLines";

interface Props {
  name: string;
  lines: readonly LogLine[];
  running: boolean;
  /** Reads the log from its first line on; null where all of it is here. */
  onWhole: (() => void) | null;
}

const NEAR_END = 24;
const LINE_HEIGHT = 19;

/** The log, of which only the lines on the screen are drawn. It follows new lines until one scrolls up, and again from the end on. */
export function Log({ name, lines, running, onWhole }: Props) {
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
  const goTo = (index: number) => {
    setFollowing(false);
    rows.scrollToIndex(index, { align: "start" });
  };
  const firstError = shown.findIndex((line) => line.level === "error");
  const some = shown.length === lines.length ? count(lines.length) : `${count(shown.length)} of ${count(lines.length)}`;
  return (
    <Card title="Log" aside={`${some} ${lines.length === 1 ? "line" : "lines"}${onWhole ? ", the latest" : ""}`} flush>
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
        {firstError >= 0 && (
          <Button variant="default" size="compact-xs" onClick={() => goTo(firstError)}>
            First error
          </Button>
        )}
        {onWhole && (
          <Button variant="default" size="compact-xs" onClick={onWhole}>
            From the start
          </Button>
        )}
        <Button variant="default" size="compact-xs" disabled={shown.length === 0} onClick={() => save(`${name}.log`, asText(shown))}>
          Download
        </Button>
        {running && (
          <Button variant={following ? "light" : "default"} size="compact-xs" aria-pressed={following} onClick={() => setFollowing(!following)}>
            {following ? "Following" : "Follow"}
          </Button>
        )}
      </div>
      <div
        ref={box}
        className={`${classes.log} ${shown.length < 12 ? classes.short : ""} mono`}
        role="log"
        aria-label="Log"
        tabIndex={0}
        onScroll={onScroll}
      >
        {shown.length === 0 && <span className="dim">{absence(lines.length > 0, running)}</span>}
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

function absence(some: boolean, running: boolean): string {
  if (some) return "No line is like that.";
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
