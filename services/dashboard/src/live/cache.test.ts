import { expect, test } from "vitest";

import type { JobSummary } from "../api/types";
import { patchPages, type JobPages } from "./cache";

function job(id: string, state: JobSummary["state"], minute: number): JobSummary {
  return {
    id, state, project: "main", kind: "train", name: id, priority: "normal", visibility: "project", cancel_requested: false,
    progress: null, standing: null, error: null, created_at: new Date(60_000 * minute).toISOString(), started_at: null, finished_at: null,
  };
}
function pages(next: string | null, ...items: JobSummary[]): JobPages {
  return { pages: [{ items, next_cursor: next }], pageParams: [undefined] };
}
const all = { state: [], kind: [] };
const listed = pages("more", job("new", "queued", 9), job("old", "queued", 5));

test("a change takes its row's place and leaves the others", () => {
  const patched = patchPages(listed, job("old", "running", 5), all);
  expect(patched?.pages[0]?.items.map((item) => [item.id, item.state])).toEqual([["new", "queued"], ["old", "running"]]);
});

test("a new job asks for the list, one beyond the loaded pages does not", () => {
  expect(patchPages(listed, job("newer", "queued", 10), all)).toBeNull();
  expect(patchPages(listed, job("ancient", "running", 1), all)).toBe(listed);
  expect(patchPages(pages(null), job("first", "queued", 1), all)).toBeNull();
});

test("a job that the filter no longer admits asks for the list; one it never admitted does not", () => {
  const filter = { state: ["queued" as const], kind: [] };
  expect(patchPages(listed, job("old", "running", 5), filter)).toBeNull();
  expect(patchPages(listed, job("other", "running", 10), filter)).toBe(listed);
});
