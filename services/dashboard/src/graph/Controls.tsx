import classes from "../pages/Graph.module.css";
import { count } from "../format";
import { Glyph } from "./Glyph";
import type { Edges } from "./model";
import type { Picture } from "./painter";

interface Props {
  edges: Edges;
  nodeCount: number;
  picture: Picture;
  /** Share of influence, from 0 to 1. */
  prune: number;
  onPrune: (share: number) => void;
  /** Exponent of ten. */
  flow: number;
  onFlow: (exponent: number) => void;
}

const FIRST_SIGHT = 700;

/** A threshold that leaves as many edges as an eye can follow. */
export function firstFlow(edges: Edges): number {
  if (edges.length === 0) return -4;
  return floorTo(Math.log10(Math.max(1e-9, edges.flow[Math.min(FIRST_SIGHT, edges.length) - 1] ?? 1e-9)));
}

export function Controls({ edges, nodeCount, picture, prune, onPrune, flow, onFlow }: Props) {
  const [low, high] = [floorTo(Math.log10(Math.max(1e-9, edges.flow[edges.length - 1] ?? 1e-4))), Math.log10(edges.flow[0] || 1)];
  const percentage = `${Math.round(100 * prune)}%`;
  const nodes = `${count(picture.nodeCount)} of ${count(nodeCount)}`;
  const drawn = `${count(picture.edges.length)} of ${count(edges.length)}`;
  return (
    <div className={classes.controls}>
      {picture.pinsAlone ? (
        <span>
          {count(picture.nodeCount)} pinned, edges between them: {count(picture.edges.length)}
        </span>
      ) : (
        <>
          <label
            className={classes.slider}
            title="The most influential nodes that together carry this share of the influence of all nodes here. Tokens, logits and what is pinned or selected always stay."
          >
            nodes carrying
            <input
              type="range"
              min={0}
              max={1}
              step={0.01}
              value={prune}
              aria-valuetext={`${percentage} of the influence, ${nodes} nodes`}
              onChange={(event) => onPrune(Number(event.currentTarget.value))}
            />
            <span className="nowrap">
              {percentage} · {nodes}
            </span>
          </label>
          <label className={classes.slider} title="An edge carries its share of its target's inputs, times the target's influence on the logits">
            edges carrying at least
            <input
              type="range"
              min={Math.min(low, flow)}
              max={high}
              step={0.05}
              value={flow}
              aria-valuetext={`${(100 * 10 ** flow).toPrecision(2)} percent, ${drawn} edges`}
              onChange={(event) => onFlow(Number(event.currentTarget.value))}
            />
            <span className="nowrap">
              {(100 * 10 ** flow).toPrecision(2)}% · {drawn}
            </span>
          </label>
        </>
      )}
      <div className={classes.legend} aria-label="Legend">
        <span><Glyph type="feature" /> feature</span>
        <span><Glyph type="error" /> error</span>
        <span><Glyph type="token" /> token, logit</span>
        <span><Glyph type="bias" /> bias</span>
        <span><Glyph type="group" /> group</span>
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
