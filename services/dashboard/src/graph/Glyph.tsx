import type { NodeType } from "../api/types";
import classes from "./panel.module.css";

const COLOUR: Record<NodeType, string> = {
  feature: "var(--running)",
  error: "var(--bad)",
  bias: "var(--ink-2)",
  token: "var(--ink)",
  position: "var(--ink)",
  logit: "var(--ink)",
};

/** The mark of a node's type, as on the canvas. */
export function Glyph({ type }: { type: NodeType }) {
  return (
    <svg className={classes.glyph} width="12" height="12" viewBox="0 0 12 12" fill={COLOUR[type]} role="img" aria-label={type}>
      {type === "feature" ? (
        <circle cx="6" cy="6" r="4" />
      ) : (
        <path d={type === "error" ? "M6 1l5 5-5 5-5-5z" : type === "bias" ? "M6 2l4.5 8h-9z" : "M2 2h8v8h-8z"} />
      )}
    </svg>
  );
}
