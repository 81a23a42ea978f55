import { expect, test } from "vitest";

import type { LogLine } from "../../live/feed";
import { asText, chosen, LEVELS, marked } from "./logLines";

const lines = (["debug", "info", "event", "warning", "error"] as const).map(
  (level, seq): LogLine => ({ seq, at: "2026-01-01T00:00:00Z", level, message: `Step ${seq} of a Step` }),
);

test("a level shows itself and what is worse; events count as information", () => {
  expect(LEVELS.map((level) => chosen(lines, level, "").map((line) => line.level))).toEqual([
    ["debug", "info", "event", "warning", "error"],
    ["info", "event", "warning", "error"],
    ["warning", "error"],
    ["error"],
  ]);
});

test("a search finds capitals or not, and marks every place", () => {
  expect(chosen(lines, "info", " sTeP 3").map((line) => line.seq)).toEqual([3]);
  expect(chosen(lines, "debug", "nothing")).toEqual([]);
  expect(marked("Step 3 of a Step", "step")).toEqual(["", "Step", " 3 of a ", "Step", ""]);
  for (const text of ["", "s", "Step 3 of a Step", "nothing"]) expect(marked("Step 3 of a Step", text).join("")).toBe("Step 3 of a Step");
});

test("a file of the log has a line for each", () => {
  expect(asText(lines.slice(0, 2))).toBe("2026-01-01T00:00:00Z debug Step 0 of a Step\n2026-01-01T00:00:00Z info Step 1 of a Step\n");
});
