import { ago, duration, elapsed } from "../format";
import { useNow } from "./useNow";

/** How long ago, with the exact moment on hover. */
export function Ago({ at }: { at: string }) {
  const now = useNow(5000);
  return (
    <time dateTime={at} title={new Date(at).toLocaleString()} className="nowrap">
      {ago(at, now)}
    </time>
  );
}

export function Elapsed({ start, end }: { start: string | null; end: string | null }) {
  const now = useNow(1000);
  return <span className="nowrap">{duration(elapsed(start, end, now))}</span>;
}
