import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";

import { logQuery } from "../api/queries";
import type { Feed, LogLine } from "./feed";

/** So many pages are read at one press, lest a log without end fill the browser. */
const PAGES_AT_ONCE = 100;

export interface JobLog {
  lines: readonly LogLine[];
  /** Reads what came before them; null where nothing did. */
  onEarlier: (() => void) | null;
  /** Whether more of them are on their way. */
  reading: boolean;
  error: Error | null;
  onRetry: () => void;
}

/** The last lines that a job logged until the page first saw it, earlier ones when asked for, and those that came since. */
export function useJobLog(id: string, since: number, feed: Feed): JobLog {
  const { data, error, hasNextPage, isFetching, fetchNextPage, refetch } = useInfiniteQuery(logQuery(id, since));
  const [wanted, setWanted] = useState(1);
  const read = data?.pages.length ?? 0;
  const reading = !data || (hasNextPage && read < wanted);
  useEffect(() => {
    if (data && reading && !isFetching && !error) void fetchNextPage();
  }, [data, reading, isFetching, error, fetchNextPage]);
  const lines = useMemo(() => [...(data?.pages ?? []).toReversed().flat(), ...feed.log], [data, feed.log]);
  return {
    lines,
    onEarlier: hasNextPage ? () => setWanted(read + PAGES_AT_ONCE) : null,
    reading,
    error,
    onRetry: () => void (data ? fetchNextPage() : refetch()),
  };
}
