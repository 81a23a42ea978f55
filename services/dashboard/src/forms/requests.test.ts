import { expect, test } from "vitest";

import text from "../../openapi.json?raw";
import { requestOf } from "../api/jobs";
import type { JobView } from "../api/types";
import { askedOf } from "./requests";
import type { ApiDocument } from "./schema";

const document = JSON.parse(text) as ApiDocument;
const fieldsOf = (schema: string) => Object.keys(document.components.schemas[schema]?.properties ?? {});

test("every field of a request that a job keeps comes back from it", () => {
  const kept = fieldsOf("JobRequest").filter((name) => fieldsOf("JobView").includes(name));
  const job = Object.fromEntries(fieldsOf("JobView").map((name) => [name, `the ${name}`])) as unknown as JobView;
  expect(requestOf(job)).toEqual(Object.fromEntries(kept.map((name) => [name, `the ${name}`])));
});

test("what a job asked of its worker is written out, and no more than that", () => {
  const spec = { kind: "import-model", name: "m", path: "/models/m" };
  const requests = { gpus: 1, gpu_memory_bytes: null, cpus: null, memory_bytes: 2 ** 30 };
  const job = { spec, priority: "normal", max_retries: 0, visibility: "project", requests } as unknown as JobView;
  expect(askedOf(job, document)).toEqual({ spec, options: { requests: { gpus: 1, memory_bytes: 2 ** 30 } } });
});
