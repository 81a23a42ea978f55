import { decimal, percent, token } from "../format";
import classes from "./GraphCanvas.module.css";
import { layerName, tokenOf, type Graph } from "./model";
import type { Size } from "./view";

interface Props {
  graph: Graph;
  row: number;
  at: { x: number; y: number };
  within: Size;
}

const ROOM = { width: 230, height: 110, gap: 14 };

export function Tooltip({ graph, row, at, within }: Props) {
  const node = graph.nodes[row];
  if (!node) return null;
  const left = at.x + ROOM.gap + ROOM.width > within.width ? "calc(-100% - 14px)" : `${ROOM.gap}px`;
  const up = at.y + ROOM.height > within.height ? "calc(-100% - 8px)" : "8px";
  const where = tokenOf(graph, node);
  return (
    <div
      className={classes.tooltip}
      role="tooltip"
      style={{ transform: `translate(calc(${at.x}px + ${left}), calc(${at.y}px + ${up}))` }}
    >
      <strong>{node.label}</strong>
      <div className="dim">
        {node.type}, {layerName(node.layer, graph.document.summary.n_layers)}
        {where !== undefined && (
          <>
            {" "}
            at <span className="mono">{token(where)}</span> ({node.position})
          </>
        )}
      </div>
      <div>
        influence {percent(node.influence, 2)} ·{" "}
        {node.type === "group" ? `${node.members.length} nodes` : `${VALUE[node.type]} ${decimal(node.value, 2)}`}
      </div>
    </div>
  );
}

export const VALUE = {
  feature: "activation",
  logit: "logit",
  token: "norm",
  position: "norm",
  error: "norm",
  bias: "norm",
} as const;
