/** Pinning and grouping. Pure: what the URL says, to what it says next. */
import { groupName, MOST_PINS, type GraphSearch, type Group } from "./search";

export type Pins = Pick<GraphSearch, "pins" | "groups">;

/** Pin a node, or unpin it; a group is unpinned with all its members. Beyond the most there may be, nothing is pinned. */
export function togglePin({ pins = [], groups = [] }: Pins, id: number): Pins {
  const members = groups.find((group) => group.nodes.includes(id))?.nodes ?? [id];
  if (pins.includes(id)) {
    return said(
      pins.filter((pin) => !members.includes(pin)),
      groups.filter((group) => !group.nodes.includes(id)),
    );
  }
  return said(pins.length < MOST_PINS ? [...pins, id] : pins, groups);
}

/** Draw these pinned nodes as one. Whole groups among them are taken up by the new one. */
export function makeGroup({ pins = [], groups = [] }: Pins, name: string, ids: readonly number[]): Pins {
  const nodes = new Set(ids.filter((id) => pins.includes(id)));
  const kept = groups.filter((group) => {
    if (!group.nodes.some((node) => nodes.has(node))) return true;
    for (const node of group.nodes) nodes.add(node);
    return false;
  });
  if (nodes.size < 2) return said(pins, groups);
  return said(pins, [...kept, { name: groupName(name, kept.length), nodes: [...nodes] }]);
}

/** The members stay pinned. */
export function ungroup({ pins = [], groups = [] }: Pins, index: number): Pins {
  return said(pins, groups.filter((_, i) => i !== index));
}

export function renameGroup({ pins = [], groups = [] }: Pins, index: number, name: string): Pins {
  return said(pins, groups.map((group, i) => (i === index ? { ...group, name: groupName(name, i) } : group)));
}

function said(pins: number[], groups: Group[]): Pins {
  return { pins: pins.length > 0 ? pins : undefined, groups: groups.length > 0 ? groups : undefined };
}
