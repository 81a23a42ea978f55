/**
 * Send files to the lab: hashed, announced, part by part to the object store, completed; as the Python client does.
 *
 * There is nothing to keep between two tries: who announces the same files again goes on with the parts that are there.
 */
import { api, unwrap } from "../api/client";
import { ApiError, UNREACHABLE } from "../api/problem";
import type { PartView, UploadDetail } from "../api/types";
import { md5Of, sha256Of } from "./digests";
import { sizeOf, type Picked } from "./files";

export type Phase = "hash" | "send";
/** Told again and again: the phase, bytes done, and bytes that were worked on since the phase began. */
export type Tell = (phase: Phase, done: number, worked: number) => void;

/** Links asked for at once: they are valid for 15 minutes. */
const PAGE = 20;
/** How often links are asked for anew, where the old ones expired or parts did not arrive. */
const ROUNDS = 5;
/** Between tries of what another try may change. */
const PAUSES_MS = [250, 1000, 4000, 10_000, 20_000];
const FORBIDDEN = 403;

/** Raises `ApiError` for what the lab refuses or the store does not take; what was sent is kept. */
export async function send(name: string, picked: readonly Picked[], signal: AbortSignal, tell: Tell): Promise<UploadDetail> {
  const total = sizeOf(picked);
  const files: { name: string; size: number; sha256: string }[] = [];
  let read = 0;
  for (const { name: file, file: blob } of picked) {
    const sha256 = await readable(file, sha256Of(blob, signal, (more) => tell("hash", (read += more), read)));
    files.push({ name: file, size: blob.size, sha256 });
  }
  let upload = await again(signal, () => unwrap(api.POST("/api/v1/uploads", { body: { name, files }, signal })));
  if (upload.state === "open") {
    const round = new Round(upload.id, picked, signal, tell);
    for (let i = 0; i < ROUNDS && !(await round.run()); i += 1);
    const params = { path: { upload_id: upload.id } };
    upload = await again(signal, () => unwrap(api.POST("/api/v1/uploads/{upload_id}/complete", { params, signal })));
  }
  tell("send", total, total);
  return upload;
}

class Round {
  private readonly starts = new Map<string, number>();
  private readonly blobs: Map<string, Blob>;
  private sent = 0;

  constructor(
    private readonly id: string,
    picked: readonly Picked[],
    private readonly signal: AbortSignal,
    private readonly tell: Tell,
  ) {
    let start = 0;
    for (const { name, file } of picked) {
      this.starts.set(name, start);
      start += file.size;
    }
    this.blobs = new Map(picked.map(({ name, file }) => [name, file]));
  }

  /** Whether nothing was missing. A link that has expired, or a part that did not stay, ends the round. */
  async run(): Promise<boolean> {
    const sent = new Set<string>();
    try {
      for await (const part of this.missing()) {
        const key = `${part.number} ${part.file}`;
        if (sent.has(key)) return false;
        await again(this.signal, () => this.put(part));
        sent.add(key);
      }
    } catch (error) {
      if (error instanceof ApiError && error.status === FORBIDDEN) return false;
      throw error;
    }
    return sent.size === 0;
  }

  private async *missing(): AsyncGenerator<PartView> {
    let cursor: string | undefined;
    do {
      const params = { path: { upload_id: this.id }, query: { cursor, limit: PAGE } };
      const page = await again(this.signal, () => unwrap(api.POST("/api/v1/uploads/{upload_id}/parts", { params, signal: this.signal })));
      yield* page.items;
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }

  private async put(part: PartView): Promise<void> {
    const blob = this.blobs.get(part.file)?.slice(part.offset, part.offset + part.size);
    if (!blob) throw new Error(`the lab asks for ${part.file}, which is none of these files`);
    const md5 = await readable(part.file, md5Of(blob, this.signal));
    const before = (this.starts.get(part.file) ?? 0) + part.offset;
    const status = await put(part.url, blob, md5, this.signal, (bytes) => this.tell("send", before + bytes, this.sent + bytes));
    if (status >= 300) throw new ApiError(refused(part, status));
    this.sent += part.size;
  }
}

/** The status of the store's answer. `fetch` would not tell how far it is. */
function put(url: string, body: Blob, md5: string, signal: AbortSignal, tell: (bytes: number) => void): Promise<number> {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    request.onloadend = () => signal.removeEventListener("abort", abort);
    request.upload.onprogress = (event) => tell(event.loaded);
    request.onload = () => done(request.status);
    request.onabort = () => failed(new DOMException("cancelled", "AbortError"));
    request.onerror = () => failed(new ApiError(STORE_AWAY));
    request.open("PUT", url);
    request.setRequestHeader("Content-MD5", md5);
    request.send(body);
  });
}

const STORE_AWAY = {
  ...UNREACHABLE,
  title: "The object store does not answer",
  detail: "The browser could not send a part of the upload to the lab's object store.",
  hint: "Try again: what was sent is kept. If it never works, the store may not let this page in (CORS): see the operator's guide.",
};

function refused(part: PartView, status: number) {
  return {
    type: "urn:clew:refused-part",
    title: "The object store refused a part",
    status,
    detail: `Part ${part.number} of ${part.file} was not taken: the object store answered ${status}.`,
    hint: "Try again: what was sent is kept.",
  };
}

/** A file that changes while it is read cannot be read on. */
async function readable<T>(name: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (!(error instanceof DOMException) || error.name === "AbortError") throw error;
    throw new ApiError({
      type: "urn:clew:unreadable-file",
      title: "A file cannot be read",
      status: 409,
      detail: `${name} was changed, moved or removed while it was uploaded.`,
      hint: "Choose it again when it is whole.",
    });
  }
}

/** Try what a lab or a store that is away for a moment does not answer. */
async function again<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
  for (const pause of PAUSES_MS) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof ApiError) || !(error.status === 0 || error.status === 429 || error.status >= 500)) throw error;
    }
    await new Promise((done) => setTimeout(done, pause));
    signal.throwIfAborted();
  }
  return act();
}
