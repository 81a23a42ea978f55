import { expect, test } from "vitest";

import type { UploadDetail } from "../api/types";
import { Outbox, type Send } from "./outbox";

const picked = [{ name: "a.txt", file: new File(["12345678"], "a.txt") }];
const upload = { id: "u" } as UploadDetail;

function boxOf(send: Send) {
  let now = 0;
  const box = new Outbox(
    () => Promise.resolve(send),
    () => (now += 1000),
  );
  const seen: string[] = [];
  box.subscribe(() => seen.push(box.list().map(({ state, done, rate }) => `${state} ${done} ${rate ?? "-"}`).join()));
  return { box, seen };
}

test("what is sent is seen on its way, with its rate of this phase alone", async () => {
  const { box, seen } = boxOf((_, __, ___, tell) => {
    tell("hash", 8, 8);
    tell("send", 4, 2); // half was there already
    tell("send", 8, 6);
    return Promise.resolve(upload);
  });
  await box.add("a", picked);
  expect(seen).toEqual(["hash 0 -", "hash 8 8", "send 4 2", "send 8 3", "sent 8 3"]);
  expect(box.list()[0]).toMatchObject({ name: "a", size: 8, files: 1, upload });
  expect(box.busy).toBe(false);
});

test("what failed goes on with the same files; what is removed is stopped", async () => {
  let tries = 0;
  const signals: AbortSignal[] = [];
  const { box } = boxOf((_, files, signal) => {
    signals.push(signal);
    tries += 1;
    expect(files).toBe(picked);
    return tries === 1 ? Promise.reject(new Error("away")) : new Promise((_, failed) => signal.addEventListener("abort", () => failed(new Error("stopped"))));
  });
  await box.add("a", picked);
  expect(box.list()[0]).toMatchObject({ state: "failed", error: new Error("away") });
  const again = box.retry(box.list()[0]?.id ?? 0);
  await Promise.resolve();
  expect(box.busy).toBe(true);
  expect(box.list()[0]?.error).toBeUndefined();
  await new Promise((done) => setTimeout(done));
  box.remove(box.list()[0]?.id ?? 0);
  await again;
  expect(signals[1]?.aborted).toBe(true);
  expect(box.list()).toEqual([]);
});
