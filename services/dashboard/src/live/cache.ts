import type { InfiniteData, QueryClient } from "@tanstack/react-query";

import type { JobFilter } from "../api/queries";
import { isTerminal, type JobSummary, type JobView, type Page } from "../api/types";

export type JobPages = InfiniteData<Page<JobSummary>, string | undefined>;

/** Put a changed job in its place in a list, or take it out where it no longer belongs; the others stay as they are. */
export function patchPages(pages: JobPages, job: JobSummary, filter: JobFilter): JobPages {
  const listed = pages.pages.some((page) => page.items.some((item) => item.id === job.id));
  const belongs =
    (filter.state.length === 0 || filter.state.includes(job.state)) &&
    (filter.kind.length === 0 || filter.kind.includes(job.kind)) &&
    (filter.batch === undefined || filter.batch === job.batch?.id);
  if (!listed) return belongs ? inserted(pages, job) : pages;
  const patched = (items: JobSummary[]) =>
    belongs ? items.map((item) => (item.id === job.id ? job : item)) : items.filter((item) => item.id !== job.id);
  return { ...pages, pages: pages.pages.map((page) => ({ ...page, items: patched(page.items) })) };
}

/** Newest first: before the first older job, and at the end only where there is nothing further to load. */
function inserted(pages: JobPages, job: JobSummary): JobPages {
  const isOlder = (item: JobSummary) =>
    Date.parse(item.created_at) < Date.parse(job.created_at) || (item.created_at === job.created_at && item.id < job.id);
  const last = pages.pages.length - 1;
  const at = pages.pages.findIndex((page) => page.items.some(isOlder));
  const target = at >= 0 ? at : pages.pages[last]?.next_cursor === null ? last : -1;
  if (target < 0) return pages;
  return {
    ...pages,
    pages: pages.pages.map((page, i) => {
      if (i !== target) return page;
      const before = page.items.findIndex(isOlder);
      const place = before < 0 ? page.items.length : before;
      return { ...page, items: [...page.items.slice(0, place), job, ...page.items.slice(place)] };
    }),
  };
}

/** A job changed somewhere in the lab: show it wherever it is on the screen. */
export function applyJob(client: QueryClient, job: JobSummary): void {
  const before = client.getQueryData<JobView>(["job", job.id]);
  let known = before?.state;
  for (const [key, pages] of client.getQueriesData<JobPages>({ queryKey: ["jobs"] })) {
    if (!pages) continue;
    known ??= pages.pages.flatMap((page) => page.items).find((item) => item.id === job.id)?.state;
    client.setQueryData(key, patchPages(pages, job, key[1] as JobFilter));
  }
  if (known !== job.state && job.batch) {
    // What is missed while an answer is on its way is met by the next: the bar asks again while its jobs live.
    void client.invalidateQueries({ queryKey: ["jobs-of", job.batch.id] }, { cancelRefetch: false });
  }
  if (before) {
    client.setQueryData<JobView>(["job", job.id], { ...before, ...job });
    // Attempts, worker and result are in the full view alone.
    if (before.state !== job.state) void client.invalidateQueries({ queryKey: ["job", job.id] });
  }
  if (isTerminal(job.state)) void client.invalidateQueries({ queryKey: ["records"] });
  if (known !== job.state) void client.invalidateQueries({ queryKey: ["workers"] });
}

/** The stream was away: whatever changed meanwhile was not told, so ask. */
export function refetchAfterGap(client: QueryClient): void {
  for (const key of ["jobs", "jobs-of", "job", "workers", "health", "records"]) {
    void client.invalidateQueries({ queryKey: [key] });
  }
}
