import { requestOf } from "../api/jobs";
import type { JobView } from "../api/types";
import type { Asked } from "./commands";
import { requestShape, type ApiDocument } from "./schema";
import { told, type Values } from "./values";

/** The shortest way to ask for the same. */
export function said(request: Values, document: ApiDocument): Asked {
  const { spec, ...options } = told(requestShape(document), request);
  return { spec: spec as Values, options };
}

export function askedOf(job: JobView, document: ApiDocument): Asked {
  return said(requestOf(job), document);
}
