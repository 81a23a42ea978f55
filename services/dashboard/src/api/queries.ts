import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import type { ApiDocument } from "../forms/schema";
import { logLines } from "../live/feed";
import { api, unwrap } from "./client";
import { ApiError, toProblem } from "./problem";
import { isTerminal, JOB_STATES, type BatchView, type JobKind, type JobState } from "./types";

const PAGE = 50;
/** Who scrolls on wants many more. */
const NEXT_PAGE = 200;
const METRIC_POINTS = 1000;
/** Of a curve of fewer points nothing was left out: each run of a thinned one keeps two of three, and more are there. */
export const WHOLE_CURVE = METRIC_POINTS / 2;
const LOG_LINES = 1000;

/** How often what the scheduler says of waiting jobs is asked for again: nothing tells when it changes. */
const WAITING_MS = 5000;
/** Of longer lists the standings are left to grow old. */
const FRESH_PAGES = 2;

export interface StepRange {
  first: number;
  last: number;
}

export interface JobFilter {
  state: JobState[];
  kind: JobKind[];
  /** Submitted by the person of this name. */
  user?: string;
  /** Of this sweep or pipeline. */
  batch?: string;
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
          params: { query: { state: filter.state, kind: filter.kind, user: filter.user, batch: filter.batch, limit: pageParam ? NEXT_PAGE : PAGE, cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    refetchInterval: ({ state: { data } }) =>
      data && data.pages.length <= FRESH_PAGES && data.pages.some((page) => page.items.some((job) => job.state === "queued")) ? WAITING_MS : false,
  });
}

/** A sweep or pipeline. The stream tells when one of its jobs changes, and leaves out some where many do. */
export function batchQuery(id: string) {
  return queryOptions({
    queryKey: ["jobs-of", id],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/batches/{batch_id}", { params: { path: { batch_id: id } }, signal })),
    refetchInterval: ({ state: { data } }) => (data && living(data) > 0 ? WAITING_MS : false),
  });
}

/** How many of its jobs have not ended. */
export function living(batch: BatchView): number {
  return JOB_STATES.reduce((sum, state) => sum + (isTerminal(state) ? 0 : (batch.states[state] ?? 0)), 0);
}

export function jobQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } }, signal })),
    refetchInterval: ({ state: { data } }) => (data?.state === "queued" || data?.state === "blocked" ? WAITING_MS : false),
  });
}

export function metricsQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id, "metrics"],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/api/v1/jobs/{job_id}/metrics", { params: { path: { job_id: id }, query: { max_points: METRIC_POINTS } }, signal })),
  });
}

/** A part of the curves, as close as a chart can show; what was there before stays until it has come. */
export function closerQuery(id: string, range: StepRange) {
  return queryOptions({
    queryKey: ["job", id, "metrics", range],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/jobs/{job_id}/metrics", {
          params: { path: { job_id: id }, query: { first_step: range.first, last_step: range.last, max_points: METRIC_POINTS } },
          signal,
        }),
      ),
  });
}

/** When the job measured its steps. */
export function stepTimesQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id, "steps"],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/jobs/{job_id}/steps", { params: { path: { job_id: id } }, signal })),
  });
}

/** What was logged up to an event, a page of lines at a time from the end on; what comes after it is told by the stream. It never changes. */
export function logQuery(id: string, upTo: number) {
  return infiniteQueryOptions({
    queryKey: ["log", id, upTo],
    queryFn: async ({ pageParam, signal }) =>
      logLines(
        await unwrap(api.GET("/api/v1/jobs/{job_id}/log", { params: { path: { job_id: id }, query: { before: pageParam, limit: LOG_LINES } }, signal })),
      ),
    initialPageParam: upTo + 1,
    getNextPageParam: (page) => (page.length < LOG_LINES ? undefined : page[0]?.seq),
    staleTime: Infinity,
    // To hold all lines against themselves at each page costs more than to read them.
    structuralSharing: false,
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
export const uploadsQuery = recordsQuery("uploads", (cursor, signal) =>
  unwrap(api.GET("/api/v1/uploads", { params: { query: { cursor, limit: PAGE } }, signal })),
);
export function codersQuery(job: string | undefined) {
  return recordsQuery(
    "coders",
    (cursor, signal) => unwrap(api.GET("/api/v1/coders", { params: { query: { cursor, limit: PAGE, job } }, signal })),
    job,
  );
}

export const keysQuery = recordsQuery("keys", (cursor, signal) =>
  unwrap(api.GET("/api/v1/keys", { params: { query: { cursor, limit: PAGE } }, signal })),
);
export const projectsQuery = recordsQuery("projects", (cursor, signal) =>
  unwrap(api.GET("/api/v1/projects", { params: { query: { cursor, limit: PAGE } }, signal })),
);
export const usersQuery = recordsQuery("users", (cursor, signal) =>
  unwrap(api.GET("/api/v1/users", { params: { query: { cursor, limit: PAGE } }, signal })),
);

export function membersQuery(project: string) {
  return queryOptions({
    queryKey: ["records", "members", project],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/projects/{project_id}/members", { params: { path: { project_id: project } }, signal })),
  });
}

/** Workers, and who gets how much of them; the scheduler counts every few seconds. */
export const labQuery = queryOptions({
  queryKey: ["lab"],
  queryFn: ({ signal }) => unwrap(api.GET("/api/v1/lab", { signal })),
  refetchInterval: WAITING_MS,
});

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

/** One record of the catalogue: never changed once it is published. */
export const recordQueries = {
  model: (id: string) =>
    queryOptions({
      queryKey: ["record", "model", id],
      queryFn: ({ signal }) => unwrap(api.GET("/api/v1/models/{model_id}", { params: { path: { model_id: id } }, signal })),
      staleTime: Infinity,
    }),
  dataset: (id: string) =>
    queryOptions({
      queryKey: ["record", "dataset", id],
      queryFn: ({ signal }) => unwrap(api.GET("/api/v1/datasets/{dataset_id}", { params: { path: { dataset_id: id } }, signal })),
      staleTime: Infinity,
    }),
  graph: graphQuery,
};

/** A coder's metrics are those of its newest evaluation, so they grow old. */
export function coderQuery(id: string) {
  return queryOptions({
    queryKey: ["records", "coder", id],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/coders/{coder_id}", { params: { path: { coder_id: id } }, signal })),
  });
}

/** The API's own description, from which forms are made. */
export const documentQuery = queryOptions({
  queryKey: ["document"],
  queryFn: async ({ signal }): Promise<ApiDocument> => {
    const response = await fetch("/api/v1/openapi.json", { signal });
    if (!response.ok) throw new ApiError(toProblem(null, response.status));
    return (await response.json()) as ApiDocument;
  },
  staleTime: Infinity,
});
