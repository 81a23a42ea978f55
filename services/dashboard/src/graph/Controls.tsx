import classes from "../pages/Graph.module.css";
import { count } from "../format";
import { Glyph } from "./Glyph";
import { edgesAbove, type Edges } from "./model";

interface Props {
  edges: Edges;
  /** Exponent of ten. */
  threshold: number;
  onThreshold: (exponent: number) => void;
}

const FIRST_SIGHT = 700;

/** A threshold that leaves as many edges as an eye can follow. */
export function firstThreshold(edges: Edges): number {
  if (edges.length === 0) return -4;
  return floorTo(Math.log10(Math.max(1e-9, edges.flow[Math.min(FIRST_SIGHT, edges.length) - 1] ?? 1e-9)));
}

export function Controls({ edges, threshold, onThreshold }: Props) {
  const [low, high] = [floorTo(Math.log10(Math.max(1e-9, edges.flow[edges.length - 1] ?? 1e-4))), Math.log10(edges.flow[0] || 1)];
  const shown = edgesAbove(edges, 10 ** threshold);
  return (
    <div className={classes.controls}>
      <label className={classes.slider} title="An edge carries its share of its target's inputs, times the target's influence on the logits">
        edges carrying at least
        <input
          type="range"
          min={Math.min(low, threshold)}
          max={high}
          step={0.05}
          value={threshold}
          aria-valuetext={`${(100 * 10 ** threshold).toPrecision(2)} percent, ${shown} edges`}
          onChange={(event) => onThreshold(Number(event.currentTarget.value))}
        />
        <span className="nowrap">
          {(100 * 10 ** threshold).toPrecision(2)}% · {count(shown)} of {count(edges.length)}
        </span>
      </label>
      <div className={classes.legend} aria-label="Legend">
        <span><Glyph type="feature" /> feature</span>
        <span><Glyph type="error" /> error</span>
        <span><Glyph type="token" /> token, logit</span>
        <span><Glyph type="bias" /> bias</span>
        <span><hr style={{ borderColor: "var(--positive)" }} /> excites</span>
        <span><hr style={{ borderColor: "var(--negative)" }} /> inhibits</span>
      </div>
    </div>
  );
}

/** Down to the slider's grid, so that the weakest edge is within its reach. */
function floorTo(exponent: number): number {
  return Math.floor(exponent * 20) / 20;
}
