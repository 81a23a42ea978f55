import { expect, test } from "vitest";

import { ApiError, problemOf, toProblem } from "./problem";

test("a problem is kept as it came", () => {
  const problem = { type: "urn:clew:conflict", title: "No", status: 409, detail: "it ended", hint: "look" };
  expect(toProblem(problem, 409)).toBe(problem);
  expect(problemOf(new ApiError(problem))).toBe(problem);
});

test("what is no problem still says what is known", () => {
  expect(toProblem("<html>".repeat(99), 502)).toMatchObject({ status: 502, title: "The server answered 502" });
  expect(toProblem(undefined, 500).detail).not.toBe("");
  expect(problemOf(new TypeError("Failed to fetch")).hint).toContain("clew status");
  expect(problemOf(new Error("broken")).detail).toBe("broken");
});
