import type { InfiniteData, QueryClient } from "@tanstack/react-query";

import type { JobFilter } from "../api/queries";
import { isTerminal, type JobSummary, type JobView, type Page } from "../api/types";

export type JobPages = InfiniteData<Page<JobSummary>, string | undefined>;

/** Put a changed job in its place in a list. `null`: it is not in it, or no longer belongs, so the list must be fetched. */
export function patchPages(pages: JobPages, job: JobSummary, filter: JobFilter): JobPages | null {
  const listed = pages.pages.some((page) => page.items.some((item) => item.id === job.id));
  const belongs =
    (filter.state.length === 0 || filter.state.includes(job.state)) &&
    (filter.kind.length === 0 || filter.kind.includes(job.kind));
  if (!listed) return belongs && withinReach(pages, job) ? null : pages;
  if (!belongs) return null;
  return {
    ...pages,
    pages: pages.pages.map((page) => ({
      ...page,
      items: page.items.map((item) => (item.id === job.id ? job : item)),
    })),
  };
}

/** Whether the job would stand among the pages that are loaded; newest first. */
function withinReach(pages: JobPages, job: JobSummary): boolean {
  const last = pages.pages.at(-1);
  const oldest = last?.items.at(-1);
  return !last?.next_cursor || !oldest || Date.parse(job.created_at) >= Date.parse(oldest.created_at);
}

/** A job changed somewhere in the lab: show it wherever it is on the screen. */
export function applyJob(client: QueryClient, job: JobSummary): void {
  for (const [key, pages] of client.getQueriesData<JobPages>({ queryKey: ["jobs"] })) {
    if (!pages) continue;
    const patched = patchPages(pages, job, key[1] as JobFilter);
    if (patched) client.setQueryData(key, patched);
    else void client.invalidateQueries({ queryKey: key, exact: true });
  }
  const before = client.getQueryData<JobView>(["job", job.id]);
  if (before) {
    client.setQueryData<JobView>(["job", job.id], { ...before, ...job });
    // Attempts, worker and result are in the full view alone.
    if (before.state !== job.state) void client.invalidateQueries({ queryKey: ["job", job.id] });
  }
  if (isTerminal(job.state)) void client.invalidateQueries({ queryKey: ["records"] });
  if (before?.state !== job.state) void client.invalidateQueries({ queryKey: ["workers"] });
}

/** The stream was away: whatever changed meanwhile was not told, so ask. */
export function refetchAfterGap(client: QueryClient): void {
  for (const key of ["jobs", "job", "workers", "health", "records"]) {
    void client.invalidateQueries({ queryKey: [key] });
  }
}
