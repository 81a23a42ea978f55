import { QueryClient } from "@tanstack/react-query";
import { expect, test } from "vitest";

import type { JobSummary } from "../api/types";
import { applyJob, LiveCache, patchPages, type JobPages } from "./cache";

function job(id: string, state: JobSummary["state"], minute: number): JobSummary {
  return {
    id, state, project: "main", user: "ada", kind: "train", name: id, priority: "normal", visibility: "project", cancel_requested: false, batch: null,
    progress: null, standing: null, error: null, created_at: new Date(60_000 * minute).toISOString(), started_at: null, finished_at: null,
  };
}
function pages(next: string | null, ...items: JobSummary[]): JobPages {
  return { pages: [{ items, next_cursor: next }], pageParams: [undefined] };
}
const all = { state: [], kind: [] };
const listed = pages("more", job("new", "queued", 9), job("old", "queued", 5));

const ids = (listed: JobPages) => listed.pages.map((page) => page.items.map((item) => item.id));

test("a change takes its row's place and leaves the others", () => {
  const patched = patchPages(listed, job("old", "running", 5), all);
  expect(patched.pages[0]?.items.map((item) => [item.id, item.state])).toEqual([["new", "queued"], ["old", "running"]]);
});

test("a new job takes its place by age, one beyond the loaded pages none", () => {
  expect(ids(patchPages(listed, job("newer", "queued", 10), all))).toEqual([["newer", "new", "old"]]);
  expect(ids(patchPages(listed, job("between", "queued", 7), all))).toEqual([["new", "between", "old"]]);
  expect(patchPages(listed, job("ancient", "running", 1), all)).toBe(listed);
  expect(ids(patchPages(pages(null), job("first", "queued", 1), all))).toEqual([["first"]]);
  const two = { pages: [...listed.pages, ...pages(null, job("older", "queued", 3)).pages], pageParams: [undefined, "more"] };
  expect(ids(patchPages(two, job("late", "queued", 4), all))).toEqual([["new", "old"], ["late", "older"]]);
  expect(ids(patchPages(two, job("last", "queued", 1), all))).toEqual([["new", "old"], ["older", "last"]]);
});

test("a job that the filter no longer admits leaves; one it never admitted changes nothing", () => {
  const filter = { state: ["queued" as const], kind: [] };
  expect(ids(patchPages(listed, job("old", "running", 5), filter))).toEqual([["new"]]);
  expect(patchPages(listed, job("other", "running", 10), filter)).toBe(listed);
  expect(patchPages(listed, job("hers", "queued", 10), { ...all, user: "bob" })).toBe(listed);
  expect(ids(patchPages(listed, job("hers", "queued", 10), { ...all, user: "ada" }))).toEqual([["hers", "new", "old"]]);
});

test("an answer that was on its way when a job was told does not put an older row back", async () => {
  const client = new QueryClient();
  const cache = new LiveCache(client);
  const stop = cache.follow();
  const key = ["jobs", all];
  const asked = (answer: JobPages) => {
    let arrive: ((answer: JobPages) => void) | undefined;
    const fetched = client.query({ queryKey: key, queryFn: () => new Promise<JobPages>((resolve) => (arrive = resolve)) });
    return () => {
      arrive?.(answer);
      return fetched;
    };
  };
  const state = () => client.getQueryData<JobPages>(key)?.pages[0]?.items.map((item) => [item.id, item.state]);

  const first = asked(listed);
  cache.apply(job("old", "running", 5));
  cache.apply(job("newer", "queued", 10));
  await first();
  expect(state()).toEqual([["newer", "queued"], ["new", "queued"], ["old", "running"]]);

  const second = asked(pages("more", job("newer", "queued", 10), job("old", "running", 5)));
  cache.apply(job("old", "failed", 5));
  await second();
  expect(state()).toEqual([["newer", "queued"], ["old", "failed"]]);

  const third = asked(pages("more", job("old", "succeeded", 5)));
  await third();
  expect(state()).toEqual([["old", "succeeded"]]);
  stop();
});

test("what sums up a batch is asked for again when one of its jobs moves, and not for its progress", () => {
  const client = new QueryClient();
  const place = { id: "b", kind: "sweep" as const, name: "rates", step: "steps=5" };
  const stale = () => client.getQueryState(["jobs-of", "b"])?.isInvalidated;
  client.setQueryData(["jobs", all], pages(null, { ...job("one", "running", 5), batch: place }));
  client.setQueryData(["jobs-of", "b"], {});
  applyJob(client, { ...job("one", "running", 5), batch: place, progress: null });
  expect(stale()).toBe(false);
  applyJob(client, { ...job("one", "failed", 5), batch: place });
  expect(stale()).toBe(true);
  client.setQueryData(["jobs-of", "b"], {});
  new LiveCache(client).refetch();
  expect(stale()).toBe(true);
});
