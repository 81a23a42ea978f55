import type { InfiniteData, QueryClient, QueryKey } from "@tanstack/react-query";

import type { JobFilter } from "../api/queries";
import { isTerminal, type JobSummary, type JobView, type Page } from "../api/types";

export type JobPages = InfiniteData<Page<JobSummary>, string | undefined>;

/** Put a changed job in its place in a list, or take it out where it no longer belongs; the others stay as they are. */
export function patchPages(pages: JobPages, job: JobSummary, filter: JobFilter): JobPages {
  const listed = pages.pages.some((page) => page.items.some((item) => item.id === job.id));
  const belongs =
    (filter.state.length === 0 || filter.state.includes(job.state)) &&
    (filter.kind.length === 0 || filter.kind.includes(job.kind)) &&
    (filter.user === undefined || filter.user === job.user) &&
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
    known ??= pages?.pages.flatMap((page) => page.items).find((item) => item.id === job.id)?.state;
    patchQuery(client, key, job);
  }
  if (known !== job.state && job.batch) {
    // What is missed while an answer is on its way is met by the next: the bar asks again while its jobs live.
    void client.invalidateQueries({ queryKey: ["jobs-of", job.batch.id] }, { cancelRefetch: false });
  }
  patchQuery(client, ["job", job.id], job);
  // Attempts, worker and result are in the full view alone.
  if (before && before.state !== job.state) void client.invalidateQueries({ queryKey: ["job", job.id] });
  if (isTerminal(job.state)) void client.invalidateQueries({ queryKey: ["records"] });
  if (known !== job.state) void client.invalidateQueries({ queryKey: ["workers"] });
}

/** Put a job into one list, or into the page that is its own, if that has come already. */
function patchQuery(client: QueryClient, key: QueryKey, job: JobSummary): void {
  if (key[0] === "jobs") {
    client.setQueryData<JobPages>(key, (pages) => pages && patchPages(pages, job, key[1] as JobFilter));
  } else {
    client.setQueryData<JobView>(key, (before) => before && { ...before, ...job });
  }
}

/**
 * What the stream told, put into what was fetched. An answer that was on its way when a job was told may be older than
 * that, so it is put in once more when the answer has come.
 */
export class LiveCache {
  /** Jobs that were told while a query was fetched, by the query's hash. */
  private readonly told = new Map<string, Map<string, JobSummary>>();

  constructor(private readonly client: QueryClient) {}

  /** Look at what is fetched, until the function that is returned is called. */
  follow(): () => void {
    return this.client.getQueryCache().subscribe((event) => {
      if (event.type !== "updated" || !["fetch", "success", "error"].includes(event.action.type)) return;
      if (event.action.type === "success" && event.action.manual) return;
      const { queryHash } = event.query;
      const told = this.told.get(queryHash);
      this.told.delete(queryHash);
      if (event.action.type === "success") for (const job of told?.values() ?? []) patchQuery(this.client, event.query.queryKey as QueryKey, job);
    });
  }

  apply(job: JobSummary): void {
    for (const query of this.client.getQueryCache().findAll({ fetchStatus: "fetching", predicate: ({ queryKey }) => shows(queryKey, job) })) {
      const told = this.told.get(query.queryHash) ?? new Map<string, JobSummary>();
      this.told.set(query.queryHash, told.set(job.id, job));
    }
    applyJob(this.client, job);
  }

  /** Changes were not told, or not one by one: ask for all that may have changed. What was told is older than the answers. */
  refetch(): void {
    this.told.clear();
    for (const key of ["jobs", "jobs-of", "job", "workers", "health", "records"]) {
      void this.client.invalidateQueries({ queryKey: [key] });
    }
  }
}

function shows(key: QueryKey, job: JobSummary): boolean {
  return key[0] === "jobs" || (key.length === 2 && key[0] === "job" && key[1] === job.id);
}
