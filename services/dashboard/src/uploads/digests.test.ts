import { expect, test } from "vitest";

import { md5Of, sha256Of } from "./digests";

test.each([0, 1, 1 << 20, (1 << 20) + 1, 3 * (1 << 20) + 77])("the digest of %i bytes is the platform's", async (size) => {
  const content = Uint8Array.from({ length: size }, (_, i) => (i * 7919) % 251);
  let read = 0;
  const digest = await sha256Of(new Blob([content]), new AbortController().signal, (more) => (read += more));
  const theirs = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  expect(digest).toBe([...theirs].map((byte) => byte.toString(16).padStart(2, "0")).join(""));
  expect(read).toBe(size);
});

test("the store's digest is in base64", async () => {
  expect(await md5Of(new Blob(["message digest"]), new AbortController().signal)).toBe("+WtpfXy3k41SWi8xqvFh0A=="); // RFC 1321, A.5
});

test("a digest that is no longer wanted ends", async () => {
  const stop = new AbortController();
  await expect(sha256Of(new Blob([new Uint8Array(4 << 20)]), stop.signal, () => stop.abort())).rejects.toThrow();
});
