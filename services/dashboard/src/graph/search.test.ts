import { describe, expect, test } from "vitest";

import { makeGroup, renameGroup, togglePin, ungroup, type Pins } from "./pins";
import { random } from "./sample";
import { graphSearch, LONGEST_NAME, MOST_PINS } from "./search";

const NOTHING = graphSearch({});

describe("the search of the graph page", () => {
  test("keeps what is valid", () => {
    const search = {
      node: 12,
      path: undefined,
      pins: [12, 0, 7],
      groups: [{ name: "the city", nodes: [0, 7] }],
      prune: 0.8,
      flow: -3.25,
      view: "pinned",
      steer: "01a21acc-bbd0-7e8e-917e-caee5eb35746",
    };
    expect(graphSearch(search)).toEqual(search);
  });

  test.each([
    { node: "12" }, { node: -1 }, { node: 1.5 }, { node: NaN }, { node: null }, { path: [0] }, { pins: 7 }, { pins: ["7", -2, {}] }, { pins: [] },
    { prune: 1.01 }, { prune: -0.1 }, { prune: "0.5" }, { flow: 3 }, { flow: -Infinity }, { view: "else" }, { view: 1 }, { steer: "../jobs" }, { steer: 12 },
    { groups: "no" }, { groups: [null, 3, [], { nodes: "x" }] }, { groups: [{ name: "not pinned", nodes: [1, 2] }] },
  ])("leaves out %j, and says so for every key", (search) => {
    expect(graphSearch(search)).toStrictEqual(NOTHING);
  });

  test("pins are different and not too many; groups share none, and have two at least", () => {
    const many = Array.from({ length: 3 * MOST_PINS }, (_, i) => i >> 1);
    expect(graphSearch({ pins: many }).pins).toEqual(Array.from({ length: MOST_PINS }, (_, i) => i));
    const groups = [
      { name: "  a  ", nodes: [1, 2, 2, 99] },
      { name: 3, nodes: [2, 3, 4] },
      { name: "one left", nodes: [4, 5] },
      { name: "x".repeat(99), nodes: [5, 6] },
    ];
    expect(graphSearch({ pins: [1, 2, 3, 4, 5, 6], groups }).groups).toEqual([
      { name: "a", nodes: [1, 2] },
      { name: "group 2", nodes: [3, 4] },
      { name: "x".repeat(LONGEST_NAME), nodes: [5, 6] },
    ]);
  });
});

test("whatever is pinned, grouped, renamed and taken apart, the URL keeps it as it is", () => {
  const next = random(3);
  const pick = (n: number) => Math.floor(next() * n);
  let now: Pins = {};
  let most = 0;
  for (let step = 0; step < 3000; step += 1) {
    const before = now;
    const id = pick(140);
    const groups = now.groups ?? [];
    switch (pick(5)) {
      case 0:
      case 1:
        now = togglePin(now, id);
        if (before.pins?.includes(id)) expect(now.pins ?? []).not.toContain(id);
        else if ((before.pins?.length ?? 0) < MOST_PINS) expect(now.pins).toContain(id);
        break;
      case 2:
        now = makeGroup(now, ["", "name", " two words "][pick(3)] ?? "", [id, pick(140), pick(140)]);
        expect(now.pins).toEqual(before.pins);
        break;
      case 3:
        now = ungroup(now, pick(groups.length + 1));
        expect(now.pins).toEqual(before.pins);
        break;
      default:
        now = renameGroup(now, pick(groups.length + 1), "z".repeat(pick(60)));
        expect(now.groups?.map((group) => group.nodes)).toEqual(before.groups?.map((group) => group.nodes));
    }
    const kept = graphSearch(JSON.parse(JSON.stringify(now)) as Record<string, unknown>);
    expect({ pins: kept.pins, groups: kept.groups }).toEqual({ pins: now.pins, groups: now.groups });
    most = Math.max(most, now.groups?.length ?? 0);
  }
  expect(most).toBeGreaterThan(3);
});

test("a group takes up the groups of what is chosen, and is unpinned as a whole", () => {
  const pins = [1, 2, 3, 4];
  const one = makeGroup({ pins }, "one", [1, 2]);
  const both = makeGroup(one, "both", [2, 3]);
  expect(both.groups).toEqual([{ name: "both", nodes: [2, 3, 1] }]);
  expect(togglePin(both, 3)).toEqual({ pins: [4], groups: undefined });
});
