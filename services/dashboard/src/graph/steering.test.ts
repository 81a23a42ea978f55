import { describe, expect, test } from "vitest";

import { groupNodes, indexGraph } from "./model";
import { documentOf, node } from "./sample";
import { OPERATIONS, sitesOf, steerSpec } from "./steering";

const feature = (id: number, number: number, position: number) => ({ ...node(id, "feature", 1, position), feature: number });
const nodes = [node(1, "token", -1, 1), feature(2, 7, 2), feature(3, 7, 1), feature(4, 8, 0), feature(5, 9, 2)];
const graph = groupNodes(indexGraph(documentOf(nodes, [], ["a", "b", "c"])), [{ name: "all", nodes: [1, 2, 3, 4] }]);
const group = graph.nodes[graph.rowOf.get(2) ?? -1];
const asked = { operation: "scale", value: 3, onward: false, tokens: 5 } as const;

describe("what is asked of a steer job", () => {
  test("the features of a group are edited, what is no feature is not", () => {
    expect(sitesOf(group).map(({ feature, position }) => [feature, position])).toEqual([[7, 2], [7, 1], [8, 0]]);
    expect(sitesOf(nodes[0])).toEqual([]);
    expect(sitesOf(undefined)).toEqual([]);
  });

  test("there alone is one position, from there on is one edit a feature from where it first is", () => {
    expect(steerSpec("g", sitesOf(group), asked).edits.map(({ start, stop }) => [start, stop])).toEqual([[2, 3], [1, 2], [0, 1]]);
    expect(steerSpec("g", sitesOf(group), { ...asked, onward: true }).edits).toEqual([
      { layer: 1, feature: 7, start: 1, stop: null, operation: "scale", value: 3 },
      { layer: 1, feature: 8, start: 0, stop: null, operation: "scale", value: 3 },
    ]);
  });

  test.each(OPERATIONS)("%s has a value unless it ablates", (operation) => {
    const { edits } = steerSpec("g", sitesOf(nodes[4]), { ...asked, operation });
    expect(edits.map((edit) => edit.value)).toEqual([operation === "ablate" ? null : 3]);
  });
});
