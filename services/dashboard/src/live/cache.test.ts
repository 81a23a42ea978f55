import { QueryClient } from "@tanstack/react-query";
import { expect, test } from "vitest";

import type { JobSummary } from "../api/types";
import { applyJob, patchPages, refetchAfterGap, type JobPages } from "./cache";

function job(id: string, state: JobSummary["state"], minute: number): JobSummary {
  return {
    id, state, project: "main", kind: "train", name: id, priority: "normal", visibility: "project", cancel_requested: false, batch: null,
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
  refetchAfterGap(client);
  expect(stale()).toBe(true);
});
