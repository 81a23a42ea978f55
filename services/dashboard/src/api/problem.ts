import type { Problem } from "./types";

/** An error answer of the API, or the absence of one. */
export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.name = "ApiError";
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }
}

export const UNREACHABLE: Problem = {
  type: "urn:clew:unreachable",
  title: "The lab does not answer",
  status: 0,
  detail: "The dashboard could not reach the API.",
  hint: "Check that the lab is running (`clew status`); this page tries again by itself.",
};

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "detail" in body && typeof body.detail === "string" && "title" in body;
}

/** What went wrong, as a `Problem`, whatever sent it: Clew, or a proxy that speaks HTML. */
export function toProblem(body: unknown, status: number): Problem {
  if (isProblem(body)) return body;
  return {
    type: "about:blank",
    title: `The server answered ${status}`,
    status,
    detail: typeof body === "string" && body.length > 0 && body.length < 200 ? body : "The answer gave no reason.",
    hint: status >= 500 ? "Look at the log of the API; trying again may help." : null,
  };
}

export function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  if (error instanceof TypeError) return UNREACHABLE;
  return { ...UNREACHABLE, title: "Something went wrong here", detail: error instanceof Error ? error.message : String(error), hint: null };
}
