import type { JobView } from "../../../api/types";
import type { SteerResult } from "../../../graph/steering";
import { AttentionScore, type QKResult } from "./AttentionScore";
import { Calibrations, type ExportResult } from "./Calibrations";
import { Connections, type ConnectionsResult } from "./Connections";
import { EdgeParts, type EdgeResult } from "./EdgeParts";
import { Evaluation, type EvaluationResult } from "./Evaluation";
import { Faithfulness, type FaithfulnessResult } from "./Faithfulness";
import { MeanEdges, type MeanEdgesResult } from "./MeanEdges";
import { Patching, type PatchResult } from "./Patching";
import { Paths, type PathsResult } from "./Paths";
import { Steering } from "./Steering";

/** Results that are found out, as far as cards show them (`clew_spec/results.py`); others are records of the catalogue. */
type FoundResult =
  | ConnectionsResult
  | EdgeResult
  | EvaluationResult
  | ExportResult
  | FaithfulnessResult
  | MeanEdgesResult
  | PatchResult
  | PathsResult
  | QKResult
  | SteerResult;

/** What a job found out, where that is more than what it added to the lab. */
export function Found({ job }: { job: JobView }) {
  const result = job.result as unknown as FoundResult | null;
  switch (result?.kind) {
    case "connections":
      return <Connections result={result} />;
    case "edge":
      return <EdgeParts result={result} />;
    case "evaluation":
      return <Evaluation result={result} />;
    case "export":
      return <Calibrations result={result} />;
    case "faithfulness":
      return <Faithfulness result={result} />;
    case "mean-edges":
      return <MeanEdges result={result} />;
    case "patching":
      return <Patching result={result} />;
    case "paths":
      return <Paths result={result} />;
    case "qk":
      return <AttentionScore result={result} />;
    case "steering":
      return <Steering result={result} />;
    default:
      return null;
  }
}
