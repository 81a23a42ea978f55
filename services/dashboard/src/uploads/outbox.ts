/** What this tab sends to the lab; it goes on while its reader looks at other pages. */
import type { UploadDetail } from "../api/types";
import { sizeOf, type Picked } from "./files";
import type { Phase } from "./send";

export interface Sending {
  readonly id: number;
  readonly name: string;
  readonly files: number;
  readonly size: number;
  readonly state: Phase | "sent" | "failed";
  /** Bytes of the phase. */
  readonly done: number;
  /** Bytes a second. */
  readonly rate: number | null;
  readonly error?: unknown;
  readonly upload?: UploadDetail;
}

/** Sends a file or a folder: `send`, or a stand-in. */
export type Send = typeof import("./send").send;

/** A rate over less than this says nothing. */
const SOON_MS = 500;

export class Outbox {
  private entries: readonly Sending[] = [];
  private readonly picked = new Map<number, readonly Picked[]>();
  private readonly stops = new Map<number, AbortController>();
  private readonly listeners = new Set<() => void>();
  private next = 1;

  constructor(
    private readonly load: () => Promise<Send>,
    private readonly now: () => number = () => performance.now(),
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  readonly list = (): readonly Sending[] => this.entries;

  get busy(): boolean {
    return this.entries.some(({ state }) => state === "hash" || state === "send");
  }

  /** Begin to send; ends when it is there, has failed or was stopped, and never throws. */
  add(name: string, picked: readonly Picked[]): Promise<void> {
    const id = this.next++;
    this.picked.set(id, picked);
    this.entries = [{ id, name, files: picked.length, size: sizeOf(picked), state: "hash", done: 0, rate: null }, ...this.entries];
    return this.run(id);
  }

  /** Go on with one that failed. */
  retry(id: number): Promise<void> {
    this.change(id, { state: "hash", done: 0, rate: null, error: undefined });
    return this.run(id);
  }

  /** Stop it, and forget it. What is in the store stays there for a while, so the same files go on where it stopped. */
  remove(id: number): void {
    this.stops.get(id)?.abort();
    this.stops.delete(id);
    this.picked.delete(id);
    this.entries = this.entries.filter((entry) => entry.id !== id);
    this.tell();
  }

  private async run(id: number): Promise<void> {
    const entry = this.entries.find((each) => each.id === id);
    const picked = this.picked.get(id);
    if (!entry || !picked) return;
    const stop = new AbortController();
    this.stops.set(id, stop);
    this.tell();
    let phase: Phase | null = null;
    let began = 0;
    try {
      const send = await this.load();
      const upload = await send(entry.name, picked, stop.signal, (at, done, worked) => {
        if (at !== phase) [phase, began] = [at, this.now()];
        const ms = this.now() - began;
        this.change(id, { state: at, done, rate: ms > SOON_MS ? (1000 * worked) / ms : null });
      });
      this.change(id, { state: "sent", upload });
      this.picked.delete(id);
    } catch (error) {
      this.change(id, { state: "failed", error });
    }
    this.stops.delete(id);
  }

  private change(id: number, fields: Partial<Sending>): void {
    this.entries = this.entries.map((entry) => (entry.id === id ? { ...entry, ...fields } : entry));
    this.tell();
  }

  private tell(): void {
    this.listeners.forEach((listener) => listener());
  }
}

export const outbox = new Outbox(async () => (await import("./send")).send);
