import type { PictureNode } from "./model";

/** A node as it is told from others of the same label: with its position, where it is at one that the label does not say. */
export function nodeName(node: PictureNode): string {
  const placed = node.type === "feature" || node.type === "error" || node.type === "token";
  return placed ? `${node.label} @${node.position}` : node.label;
}
