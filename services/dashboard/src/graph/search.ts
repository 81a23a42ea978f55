/** What of the graph page stands in its URL, so that a link shows the same picture. What is not valid is left out. */

export interface Group {
  name: string;
  /** Ids of pinned nodes, each in one group at most. */
  nodes: number[];
}

export interface GraphSearch {
  /** Id of the selected node. */
  node?: number;
  /** Index of the highlighted path. */
  path?: number;
  /** Ids of the pinned nodes. */
  pins?: number[];
  groups?: Group[];
  /** Share of the influence that the nodes shown carry. */
  prune?: number;
  /** Exponent of ten: edges that carry less are not drawn. */
  flow?: number;
  /** The pinned nodes alone, or the whole picture. */
  view?: "pinned";
  /** Id of the job that steers the selected node. */
  steer?: string;
}

export const MOST_PINS = 100;
export const LONGEST_NAME = 40;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function graphSearch(search: Record<string, unknown>): GraphSearch {
  const pins = ids(search.pins).slice(0, MOST_PINS);
  return {
    node: id(search.node),
    path: id(search.path),
    pins: some(pins),
    groups: some(groupsOf(search.groups, pins)),
    prune: within(search.prune, 0, 1),
    flow: within(search.flow, -12, 0),
    view: search.view === "pinned" ? "pinned" : undefined,
    steer: typeof search.steer === "string" && UUID.test(search.steer) ? search.steer : undefined,
  };
}

/** Groups of at least two of the pinned nodes, none of them in an earlier group. */
function groupsOf(value: unknown, pins: readonly number[]): Group[] {
  const free = new Set(pins);
  const groups: Group[] = [];
  for (const item of Array.isArray(value) ? (value as unknown[]) : []) {
    if (typeof item !== "object" || item === null) continue;
    const { name, nodes } = item as Partial<Record<string, unknown>>;
    const members = ids(nodes).filter((node) => free.has(node));
    if (members.length < 2) continue;
    for (const node of members) free.delete(node);
    groups.push({ name: groupName(name, groups.length), nodes: members });
  }
  return groups;
}

/** A name as it may stand in the URL; without one, a number. */
export function groupName(name: unknown, index: number): string {
  return (typeof name === "string" && name.trim().slice(0, LONGEST_NAME).trim()) || `group ${index + 1}`;
}

function ids(value: unknown): number[] {
  return Array.isArray(value) ? [...new Set(value.map(id).filter((item) => item !== undefined))] : [];
}

function id(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function within(value: unknown, low: number, high: number): number | undefined {
  return typeof value === "number" && value >= low && value <= high ? value : undefined;
}

function some<T>(list: T[]): T[] | undefined {
  return list.length > 0 ? list : undefined;
}
