import { describe, expect, test } from "vitest";

import type { EventView } from "../api/types";
import { EMPTY_FEED, foldEvents, mergeSeries } from "./feed";

let seq = 0;
function event(type: string, data: Record<string, unknown>, fence = 1): EventView {
  seq += 1;
  return { job_id: "j", seq, fence, at: "2026-01-01T00:00:00Z", type, data };
}
const metric = (step: number, values: Record<string, number>, fence = 1) => event("metric", { step, values }, fence);

describe("folding events", () => {
  test("in one batch or one by one, the result is the same", () => {
    const events = [
      metric(0, { "L00/fvu": 1 }),
      event("log", { level: "warning", message: "\u001b[33mslow\u001b[0m" }),
      metric(5, { "L00/fvu": 0.8, "L01/fvu": 0.9 }),
      event("state", { state: "queued", reason: "lost" }),
      metric(5, { "L00/fvu": 0.7 }, 2),
      event("checkpoint", { step: 5 }, 2),
    ];
    const whole = foldEvents(EMPTY_FEED, events);
    const stepwise = events.reduce((feed, one) => foldEvents(feed, [one]), EMPTY_FEED);
    expect(stepwise).toEqual(whole);
    expect(whole.log.map((line) => [line.level, line.message])).toEqual([
      ["warning", "slow"],
      ["event", "queued (lost)"],
      ["event", "checkpoint at step 5"],
    ]);
  });

  test("a feed that was handed out is never changed", () => {
    const first = foldEvents(EMPTY_FEED, [metric(0, { loss: 1 })]);
    const points = first.points.get("loss");
    foldEvents(first, [metric(1, { loss: 2 })]);
    expect(points).toEqual([{ step: 0, value: 1 }]);
  });

  test("a later attempt forgets what the former measured past its checkpoint", () => {
    const feed = foldEvents(EMPTY_FEED, [metric(50, { loss: 1 }), metric(60, { loss: 9 }), metric(55, { loss: 0.9 }, 2)]);
    expect(mergeSeries([{ name: "loss", steps: [0, 50], values: [2, 1] }], feed)).toEqual([
      { name: "loss", steps: [0, 50, 55], values: [2, 1, 0.9] },
    ]);
  });
});

test("live points that the stored series has already are not drawn twice", () => {
  const feed = foldEvents(EMPTY_FEED, [metric(0, { loss: 3 }), metric(10, { loss: 2 }), metric(20, { loss: 1 })]);
  const merged = mergeSeries([{ name: "loss", steps: [0, 10], values: [3, 2] }], feed);
  expect(merged).toEqual([{ name: "loss", steps: [0, 10, 20], values: [3, 2, 1] }]);
});
