import type { EventView, JobSummary } from "../api/types";

export type LiveStatus = "connecting" | "open" | "reconnecting";

export interface Watch {
  job: string;
  /** Events after this `seq` are sent; grows as they arrive, so that a new connection misses none. */
  after: number;
  onEvent: (event: EventView) => void;
}

interface Listeners {
  onOpen: () => void;
  onJob: (job: JobSummary) => void;
  /** More jobs changed at once than are told one by one. */
  onRefresh: () => void;
  onRefused: () => void;
}

const RETRY_MS = [1000, 2000, 5000, 10_000];
const AWAY_MS = 3000;

/**
 * The one event stream of a browser tab: changes of every visible job, and all events of the one that is watched.
 * EventSource reconnects by itself where the connection breaks; where the server answers with an error it gives up, so
 * then this opens a new one. A tab that nobody sees has none: browsers give all tabs of a lab six connections over
 * HTTP/1.1, and whoever comes back is told what was missed.
 */
export class LiveStream {
  private source: EventSource | null = null;
  private watched: Watch | null = null;
  private retries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private away: ReturnType<typeof setTimeout> | undefined;
  private readonly subscribers = new Set<() => void>();
  private current: LiveStatus = "connecting";

  constructor(private readonly listeners: Listeners) {}

  readonly status = (): LiveStatus => this.current;

  readonly subscribe = (callback: () => void): (() => void) => {
    this.subscribers.add(callback);
    return () => this.subscribers.delete(callback);
  };

  start(): void {
    document.addEventListener("visibilitychange", this.onVisibility);
    this.connect();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.onVisibility);
    clearTimeout(this.away);
    this.close();
  }

  /** Also receive the events of one job; a tab watches one at a time. */
  watch(watch: Watch): () => void {
    this.watched = watch;
    this.connect();
    return () => {
      if (this.watched !== watch) return;
      this.watched = null;
      if (this.source) this.connect();
    };
  }

  private readonly onVisibility = (): void => {
    clearTimeout(this.away);
    if (document.hidden) this.away = setTimeout(() => this.close(), AWAY_MS);
    else if (!this.source) this.connect();
  };

  private close(): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  private connect(): void {
    this.close();
    if (document.hidden) return;
    const query = this.watched ? `?job=${this.watched.job}&after=${this.watched.after}` : "";
    const source = new EventSource(`/api/v1/stream${query}`);
    this.source = source;
    source.onopen = () => {
      this.retries = 0;
      this.set("open");
      this.listeners.onOpen();
    };
    source.onerror = () => {
      this.set("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      this.listeners.onRefused();
      this.timer = setTimeout(() => this.connect(), RETRY_MS[Math.min(this.retries, RETRY_MS.length - 1)]);
      this.retries += 1;
    };
    source.addEventListener("job", (message: MessageEvent<string>) => {
      this.listeners.onJob(JSON.parse(message.data) as JobSummary);
    });
    source.addEventListener("refresh", () => this.listeners.onRefresh());
    source.addEventListener("event", (message: MessageEvent<string>) => {
      const event = JSON.parse(message.data) as EventView;
      const watch = this.watched;
      if (watch?.job !== event.job_id || event.seq <= watch.after) return;
      watch.after = event.seq;
      watch.onEvent(event);
    });
  }

  private set(status: LiveStatus): void {
    if (status === this.current) return;
    this.current = status;
    for (const callback of this.subscribers) callback();
  }
}
