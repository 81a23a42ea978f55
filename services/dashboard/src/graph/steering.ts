/** What a `steer` job is asked for and what it answers, as far as the page asks and shows (`clew_spec/steering.py`). */
import type { FeatureEdit, JobView, SteerSpec } from "../api/types";
import type { Graph, PictureNode } from "./model";

export const OPERATIONS = ["ablate", "scale", "set", "add"] as const;
export type Operation = (typeof OPERATIONS)[number];

/** The value a reader most likely begins with: twice as much, or none. */
export const FIRST_VALUE: Record<Operation, number | null> = { ablate: null, scale: 2, set: 0, add: 1 };

export interface SteerResult {
  kind: "steering";
  prompt: string;
  tokens: string[];
  /** Whether attention patterns, norm scales and MLPs stayed as the prompt made them. */
  frozen: boolean;
  next_tokens: { token: string; token_id: number; before: number; after: number }[];
  /** KL(before || after) of the next token's distribution, nats. */
  kl: number;
  activations: (Site & { before: number; after: number })[];
  text_before: string | null;
  text_after: string | null;
  /** What the graph's edges said would move, against what did; null without a graph. */
  prediction: { agreement: Agreement; logits: Agreement } | null;
}

/** Between predicted and measured movements; null where they do not vary. */
export interface Agreement {
  targets: number;
  pearson: number | null;
  spearman: number | null;
  same_sign: number | null;
}

export const MOST_TOKENS = 512;

export interface Asked {
  operation: Operation;
  value: number | null;
  /** From the feature's position to the end and on, or there alone. */
  onward: boolean;
  tokens: number;
}

/** A feature at a position. */
export interface Site {
  layer: number;
  feature: number;
  position: number;
}

/** The features of a node that can be edited: its own, or those of a group's members. */
export function sitesOf(node: PictureNode | undefined): Site[] {
  const nodes = node?.type === "group" ? node.members : node ? [node] : [];
  return nodes.flatMap(({ type, layer, position, feature }) =>
    type === "feature" && feature !== null && feature !== undefined ? [{ layer, position, feature }] : [],
  );
}

export function steerSpec(graph: string, sites: readonly Site[], { operation, value, onward, tokens }: Asked): SteerSpec {
  const edit = ({ layer, feature, position }: Site): FeatureEdit => ({
    layer,
    feature,
    start: position,
    stop: onward ? null : position + 1,
    operation,
    value: operation === "ablate" ? null : value,
  });
  const firsts = onward ? earliest(sites) : sites;
  return { kind: "steer", graph, edits: firsts.map(edit), tokens };
}

/** Each feature where it first is: from there on includes its later positions, and an edit must not act twice. */
function earliest(sites: readonly Site[]): Site[] {
  const first = new Map<string, Site>();
  for (const site of sites) {
    const key = `${site.layer}/${site.feature}`;
    const known = first.get(key);
    if (!known || site.position < known.position) first.set(key, site);
  }
  return [...first.values()];
}

/** What a finished job found, if it is one of these. */
export function steerResult(job: JobView | undefined): SteerResult | null {
  return job?.result?.kind === "steering" ? (job.result as unknown as SteerResult) : null;
}

/** Whether a result is of these features. */
export function isOf(result: SteerResult, sites: readonly Site[]): boolean {
  return result.activations.every(({ layer, feature }) => sites.some((site) => site.layer === layer && site.feature === feature));
}

/** The name of an edited feature as the picture has it. */
export function siteName(graph: Graph, { layer, feature }: Omit<Site, "position">): string {
  return graph.document.nodes.find((node) => node.layer === layer && node.feature === feature)?.label ?? `L${layer} #${feature}`;
}
