import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import type { EventView, JobView, ProgressView } from "../api/types";
import { EMPTY_FEED, foldEvents, type Feed } from "./feed";
import { useLive } from "./LiveProvider";

const FLUSH_MS = 80;

interface Start {
  id: string;
  /** Where the job was when the page first saw it. */
  seq: number;
}

/** What happens to a job from when the page first saw it (`since`) on, folded into what the page shows; bursts cost one render. */
export function useJobFeed(id: string, lastSeq: number | undefined): { feed: Feed; since: number | undefined } {
  const live = useLive();
  const client = useQueryClient();
  const [feed, setFeed] = useState<Feed>(EMPTY_FEED);
  const [from, setFrom] = useState<Start>();
  // The first answer says where to begin; later ones must not restart the stream.
  if (lastSeq !== undefined && from?.id !== id) {
    setFrom({ id, seq: lastSeq });
    setFeed(EMPTY_FEED);
  }

  useEffect(() => {
    if (from?.id !== id) return;
    let pending: EventView[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const flush = () => {
      timer = undefined;
      const events = pending;
      pending = [];
      setFeed((before) => foldEvents(before, events));
      const progress = events.findLast((event) => event.type === "progress");
      if (progress) {
        client.setQueryData<JobView>(["job", id], (job) =>
          job && { ...job, progress: { ...(progress.data as unknown as ProgressView), at: progress.at } },
        );
      }
      if (events.some((event) => event.type === "state")) void client.invalidateQueries({ queryKey: ["job", id] });
      else if (events.some((event) => event.type === "artifact")) {
        void client.invalidateQueries({ queryKey: ["job", id, "artifacts"] });
      }
    };
    const stopWatching = live.watch({
      job: id,
      after: from.seq,
      onEvent: (event) => {
        pending.push(event);
        timer ??= setTimeout(flush, FLUSH_MS);
      },
    });
    return () => {
      clearTimeout(timer);
      stopWatching();
    };
  }, [id, from, live, client]);
  return { feed, since: from?.id === id ? from.seq : undefined };
}
