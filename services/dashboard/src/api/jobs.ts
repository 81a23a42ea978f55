/** What is done with jobs, beside reading them. */
import { api, unwrap } from "./client";
import { problemOf } from "./problem";
import { isTerminal, type BatchView, type JobRequest, type JobView, type Problem } from "./types";

export function submitJob(body: JobRequest): Promise<JobView> {
  return unwrap(api.POST("/api/v1/jobs", { body }));
}

export function cancelJob(id: string): Promise<JobView> {
  return unwrap(api.POST("/api/v1/jobs/{job_id}/cancel", { params: { path: { job_id: id } } }));
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

/** A new job that is asked for the same as one that has ended. */
export async function runAgain(id: string): Promise<JobView> {
  const job = await unwrap(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  if (!isTerminal(job.state)) return job;
  const { spec, priority, max_retries, visibility } = job;
  return submitJob({ spec, priority, max_retries, visibility });
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
