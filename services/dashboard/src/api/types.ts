/** Names for the shapes of the OpenAPI document; everything else in the dashboard imports them from here. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Problem = Schemas["Problem"];
export type JobSummary = Schemas["JobSummary"];
export type JobView = Schemas["JobView"];
export type LinkedJob = Schemas["LinkedJob"];
export type BatchView = Schemas["BatchView"];
export type Visibility = JobView["visibility"];
export type JobRequest = Schemas["JobRequest"];
export type FeatureEdit = Schemas["FeatureEditInput"];
export type SteerSpec = Schemas["SteerSpecInput"];
export type ExportFormat = Schemas["ExportCodersSpecInput"]["format"];
export type Standing = Schemas["Standing"];
export type PoolView = Schemas["PoolView"];
export type ProjectShare = Schemas["ProjectShare"];
export type Role = Schemas["Role"];
export type Permission = Schemas["Permission"];
export type KeyView = Schemas["KeyView"];
export type NewKeyView = Schemas["NewKeyView"];
export type KeyRequest = Schemas["KeyRequest"];
export type MemberView = Schemas["MemberView"];
export type MemberRequest = Schemas["MemberRequest"];
export type ProjectView = Schemas["ProjectView"];
export type ProjectRequest = Schemas["ProjectRequest"];
export type UserView = Schemas["UserView"];
export type UserRequest = Schemas["UserRequest"];
export type PasswordChange = Schemas["PasswordChange"];
export type StepTime = Schemas["StepTime"];
export type EstimateView = Schemas["EstimateView"];
export type JobState = Schemas["JobState"];
export type JobKind = JobSummary["kind"];
export type ProgressView = Schemas["ProgressView"];
export type AttemptView = Schemas["AttemptView"];
export type EventView = Schemas["EventView"];
export type MetricSeries = Schemas["MetricSeries"];
export type ArtifactView = Schemas["ArtifactView"];
export type ModelView = Schemas["ModelView"];
export type UploadView = Schemas["UploadView"];
export type UploadDetail = Schemas["UploadDetail"];
export type PartView = Schemas["PartView"];
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

export const JOB_STATES: readonly JobState[] = ["blocked", "queued", "dispatched", "running", "succeeded", "failed", "cancelled"];
// By kind, so that a kind which the API has and this list lacks does not compile.
const KINDS: Record<JobKind, true> = {
  "import-model": true,
  "build-dataset": true,
  train: true,
  evaluate: true,
  attribute: true,
  "import-coders": true,
  "export-coders": true,
  "import-graph": true,
  steer: true,
  faithfulness: true,
  patch: true,
  edge: true,
  qk: true,
  "mean-edges": true,
  connections: true,
  paths: true,
};
export const JOB_KINDS = Object.keys(KINDS) as JobKind[];

const EVERY_ROLE: Record<Role, true> = { viewer: true, member: true, maintainer: true, admin: true };
export const ROLES = Object.keys(EVERY_ROLE) as Role[];

export function isTerminal(state: JobState): boolean {
  return state === "succeeded" || state === "failed" || state === "cancelled";
}
