import { useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useMemo, useSyncExternalStore, type ReactNode } from "react";

import { LiveCache } from "./cache";
import { LiveStream, type LiveStatus } from "./stream";

const LiveContext = createContext<LiveStream | null>(null);

export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [cache, stream] = useMemo(() => {
    const cache = new LiveCache(client);
    const stream = new LiveStream({
      onOpen: () => cache.refetch(),
      onJob: (job) => cache.apply(job),
      onRefresh: () => cache.refetch(),
      onRefused: () => void client.invalidateQueries({ queryKey: ["session"] }),
    });
    return [cache, stream];
  }, [client]);
  useEffect(() => cache.follow(), [cache]);
  useEffect(() => {
    stream.start();
    return () => stream.stop();
  }, [stream]);
  return <LiveContext value={stream}>{children}</LiveContext>;
}

export function useLive(): LiveStream {
  const stream = useContext(LiveContext);
  if (!stream) throw new Error("useLive needs a LiveProvider above it");
  return stream;
}

export function useLiveStatus(): LiveStatus {
  const stream = useLive();
  return useSyncExternalStore(stream.subscribe, stream.status);
}
