import type { PictureNode } from "./model";
import classes from "./panel.module.css";

const COLOUR: Record<PictureNode["type"], string> = {
  feature: "var(--running)",
  group: "var(--running)",
  error: "var(--bad)",
  bias: "var(--ink-2)",
  token: "var(--ink)",
  position: "var(--ink)",
  logit: "var(--ink)",
};

const OUTLINE: Partial<typeof COLOUR> = { group: "M3 1h6l3 5-3 5H3L0 6z", error: "M6 1l5 5-5 5-5-5z", bias: "M6 2l4.5 8h-9z" };

/** The mark of a node's type, as on the canvas. */
export function Glyph({ type }: { type: PictureNode["type"] }) {
  return (
    <svg className={classes.glyph} width="12" height="12" viewBox="0 0 12 12" fill={COLOUR[type]} role="img" aria-label={type}>
      {type === "feature" ? (
        <circle cx="6" cy="6" r="4" />
      ) : (
        <path d={OUTLINE[type] ?? "M2 2h8v8h-8z"} />
      )}
    </svg>
  );
}
