/** What is done with jobs, beside reading them. */
import { api, unwrap } from "./client";
import { problemOf } from "./problem";
import type { BatchView, JobRequest, JobView, Problem, Visibility } from "./types";

/** What was asked for, as far as a job keeps it. A field of requests that jobs come to have is missed by the compiler. */
type Kept = Required<Pick<JobRequest, keyof JobRequest & keyof JobView>>;

export function requestOf({ spec, priority, max_retries, visibility, requests }: JobView): Kept {
  return { spec, priority, max_retries, visibility, requests };
}

export interface Submitted {
  job: JobView;
  /** Whether it was made before, at exactly the same, and nothing was submitted. */
  found: boolean;
}

export async function submitJob(body: JobRequest): Promise<Submitted> {
  const answer = api.POST("/api/v1/jobs", { body });
  const job = await unwrap(answer);
  return { job, found: (await answer).response.status === 200 };
}

/** The page of a job that was just asked for, which says where nothing new was made. */
export function pageOf({ job, found }: Submitted) {
  return { to: "/jobs/$id", params: { id: job.id }, state: { found } } as const;
}

/** With its dependents: also what was made, or is to be made, of what it makes. */
export function cancelJob(id: string, with_dependents = false): Promise<JobView> {
  return unwrap(api.POST("/api/v1/jobs/{job_id}/cancel", { params: { path: { job_id: id }, query: { with_dependents } } }));
}

/** Whether the whole lab sees it and what it made; with its inputs: also what it was made of. */
export function shareJob(id: string, visibility: Visibility, with_inputs: boolean): Promise<JobView> {
  return unwrap(api.PATCH("/api/v1/jobs/{job_id}", { params: { path: { job_id: id }, query: { with_inputs } }, body: { visibility } }));
}

/** A new job that tries one again which ended without success, from its last checkpoint. */
export function retryJob(id: string, with_dependents = false): Promise<JobView> {
  return unwrap(api.POST("/api/v1/jobs/{job_id}/retry", { params: { path: { job_id: id }, query: { with_dependents } } }));
}

export function cancelBatch(id: string): Promise<BatchView> {
  return unwrap(api.POST("/api/v1/batches/{batch_id}/cancel", { params: { path: { batch_id: id } } }));
}

export function retryBatch(id: string): Promise<BatchView> {
  return unwrap(api.POST("/api/v1/batches/{batch_id}/retry", { params: { path: { batch_id: id } } }));
}

/** A new job that is asked for the same as an old one, whatever that one came to. */
export async function runAgain(id: string): Promise<JobView> {
  const old = await unwrap(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  return (await submitJob({ ...requestOf(old), reuse: false })).job;
}

export interface Outcome {
  done: number;
  failed: { id: string; problem: Problem }[];
}

const AT_ONCE = 4;

/** Does something with each job, some at a time; one that fails stops none of the others. */
export async function eachOf(
  jobs: readonly { id: string }[],
  one: (id: string) => Promise<JobView>,
  onDone: (job: JobView) => void,
): Promise<Outcome> {
  const outcome: Outcome = { done: 0, failed: [] };
  const waiting = jobs.map((job) => job.id);
  const work = async () => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      try {
        onDone(await one(id));
        outcome.done += 1;
      } catch (error) {
        outcome.failed.push({ id, problem: problemOf(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return outcome;
}
