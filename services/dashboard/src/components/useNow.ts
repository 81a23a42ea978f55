import { useMemo, useSyncExternalStore } from "react";

/** The time, renewed every `ms` milliseconds: by one timer for all that show it, so that they change together. */
export function useNow(ms = 1000): number {
  const { subscribe, read } = useMemo(() => clockOf(ms), [ms]);
  return useSyncExternalStore(subscribe, read);
}

interface Clock {
  subscribe: (listener: () => void) => () => void;
  read: () => number;
}

const clocks = new Map<number, Clock>();

function clockOf(ms: number): Clock {
  const known = clocks.get(ms);
  if (known) return known;
  const listeners = new Set<() => void>();
  let now = Date.now();
  let timer: ReturnType<typeof setInterval> | undefined;
  const tick = () => {
    now = Date.now();
    listeners.forEach((listener) => listener());
  };
  const clock: Clock = {
    subscribe: (listener) => {
      listeners.add(listener);
      timer ??= setInterval(tick, ms);
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0) return;
        clearInterval(timer);
        timer = undefined;
      };
    },
    // While nobody listens it stands still: who comes then sets it, for all that are drawn with it.
    read: () => {
      if (timer === undefined && Date.now() - now >= ms) now = Date.now();
      return now;
    },
  };
  clocks.set(ms, clock);
  return clock;
}
