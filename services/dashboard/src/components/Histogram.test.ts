import { expect, test } from "vitest";

import { words } from "./Histogram";

test("a histogram is told by its features, those never active, and its largest bin", () => {
  const counts = Array.from({ length: 24 }, (_, i) => (i === 14 ? 1200 : i === 20 ? 3 : 0));
  expect(words({ never: 97, counts, low: -6, width: 0.25 })).toBe(
    "Of 1,300 features 97 were never active; most of the others on 10^-2.5 to 10^-2.25 of the tokens",
  );
});
