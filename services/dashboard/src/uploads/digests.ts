/** Digests of what is larger than memory, and on pages without TLS, where the browser's own are not to be had. */
import { md5 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

/** Small enough that the page answers between two of them. */
const CHUNK = 1 << 20;

/** In hex; `tell` hears how many bytes were read since it heard last. */
export async function sha256Of(file: Blob, signal: AbortSignal, tell: (read: number) => void): Promise<string> {
  const hash = sha256.create();
  for await (const chunk of chunks(file, signal)) {
    hash.update(chunk);
    tell(chunk.length);
  }
  return bytesToHex(hash.digest());
}

/** In base64, as `Content-MD5` has it. */
export async function md5Of(part: Blob, signal: AbortSignal): Promise<string> {
  const hash = md5.create();
  for await (const chunk of chunks(part, signal)) hash.update(chunk);
  return btoa(String.fromCharCode(...hash.digest()));
}

async function* chunks(blob: Blob, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < blob.size; at += CHUNK) {
    signal.throwIfAborted();
    yield new Uint8Array(await blob.slice(at, at + CHUNK).arrayBuffer());
  }
}
