import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "./client";
import type { JobKind, JobState } from "./types";

const PAGE = 50;
const METRIC_POINTS = 1000;

export interface JobFilter {
  state: JobState[];
  kind: JobKind[];
}

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => unwrap(api.GET("/api/v1/session", { signal })),
  staleTime: Infinity,
  retry: false,
});

export const healthQuery = queryOptions({
  queryKey: ["health"],
  queryFn: async ({ signal }) => {
    // 503 carries the same body: which component is down is what we want to show.
    const { data, error } = await api.GET("/api/v1/health", { signal });
    const body: unknown = data ?? error;
    if (typeof body === "object" && body !== null && "components" in body) return body as NonNullable<typeof data>;
    return unwrap(api.GET("/api/v1/health", { signal }));
  },
  refetchInterval: 15_000,
});

export const workersQuery = queryOptions({
  queryKey: ["workers"],
  queryFn: ({ signal }) => unwrap(api.GET("/api/v1/workers", { signal })),
  refetchInterval: 10_000,
});

export function jobsQuery(filter: JobFilter) {
  return infiniteQueryOptions({
    queryKey: ["jobs", filter],
    queryFn: ({ pageParam, signal }) =>
      unwrap(
        api.GET("/api/v1/jobs", {
          params: { query: { state: filter.state, kind: filter.kind, limit: PAGE, cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });
}

export function jobQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } }, signal })),
  });
}

export function metricsQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id, "metrics"],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/api/v1/jobs/{job_id}/metrics", { params: { path: { job_id: id }, query: { max_points: METRIC_POINTS } }, signal })),
  });
}

export function artifactsQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id, "artifacts"],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/jobs/{job_id}/artifacts", { params: { path: { job_id: id } }, signal })),
    // The links in it are presigned for 15 minutes.
    refetchInterval: 10 * 60_000,
  });
}

export const modelsQuery = recordsQuery("models", (cursor, signal) =>
  unwrap(api.GET("/api/v1/models", { params: { query: { cursor, limit: PAGE } }, signal })),
);
export const datasetsQuery = recordsQuery("datasets", (cursor, signal) =>
  unwrap(api.GET("/api/v1/datasets", { params: { query: { cursor, limit: PAGE } }, signal })),
);
export const graphsQuery = recordsQuery("graphs", (cursor, signal) =>
  unwrap(api.GET("/api/v1/graphs", { params: { query: { cursor, limit: PAGE } }, signal })),
);
export function codersQuery(job: string | undefined) {
  return recordsQuery(
    "coders",
    (cursor, signal) => unwrap(api.GET("/api/v1/coders", { params: { query: { cursor, limit: PAGE, job } }, signal })),
    job,
  );
}

export function graphQuery(id: string) {
  return queryOptions({
    queryKey: ["graph", id],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/graphs/{graph_id}", { params: { path: { graph_id: id } }, signal })),
    staleTime: Infinity,
  });
}

/** A graph never changes once it is published, so neither does its document. */
export function graphDocumentQuery(id: string) {
  return queryOptions({
    queryKey: ["graph", id, "document"],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/graphs/{graph_id}/document", { params: { path: { graph_id: id } }, signal })),
    staleTime: Infinity,
  });
}

type Fetch<T> = (cursor: string | undefined, signal: AbortSignal) => Promise<{ items: T[]; next_cursor: string | null }>;

function recordsQuery<T>(name: string, fetch: Fetch<T>, filter?: string) {
  return infiniteQueryOptions({
    queryKey: ["records", name, filter ?? null],
    queryFn: ({ pageParam, signal }) => fetch(pageParam, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });
}
