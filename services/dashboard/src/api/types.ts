/** Names for the shapes of the OpenAPI document; everything else in the dashboard imports them from here. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Problem = Schemas["Problem"];
export type JobSummary = Schemas["JobSummary"];
export type JobView = Schemas["JobView"];
export type JobRequest = Schemas["JobRequest"];
export type FeatureEdit = Schemas["FeatureEditInput"];
/** What the page asks of a steering; the rest has defaults. */
export type SteerSpec = Pick<Schemas["SteerSpecInput"], "kind" | "graph" | "edits" | "tokens">;
export type JobState = Schemas["JobState"];
export type JobKind = JobSummary["kind"];
export type ProgressView = Schemas["ProgressView"];
export type AttemptView = Schemas["AttemptView"];
export type EventView = Schemas["EventView"];
export type MetricSeries = Schemas["MetricSeries"];
export type ArtifactView = Schemas["ArtifactView"];
export type ModelView = Schemas["ModelView"];
export type DatasetView = Schemas["DatasetView"];
export type CoderView = Schemas["CoderView"];
export type CoderMetrics = Schemas["CoderMetrics"];
export type FrequencyHistogram = Schemas["FrequencyHistogram"];
export type GraphView = Schemas["GraphView"];
export type WorkerView = Schemas["WorkerView"];
export type Health = Schemas["Health"];
export type SessionView = Schemas["SessionView"];
export type GraphSummary = Schemas["GraphSummary"];
export type GraphDocument = Schemas["GraphDocument"];
export type GraphNode = Schemas["Node"];
export type GraphEdge = Schemas["Edge"];
export type GraphPath = Schemas["Path"];
export type NodeType = GraphNode["type"];

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export const JOB_STATES: readonly JobState[] = ["queued", "dispatched", "running", "succeeded", "failed", "cancelled"];
export const JOB_KINDS: readonly JobKind[] = [
  "import-model",
  "build-dataset",
  "train",
  "evaluate",
  "attribute",
  "import-coders",
  "export-coders",
  "import-graph",
  "steer",
  "faithfulness",
  "patch",
  "edge",
  "mean-edges",
];

export function isTerminal(state: JobState): boolean {
  return state === "succeeded" || state === "failed" || state === "cancelled";
}
