import { ActionIcon, Button } from "@mantine/core";
import { useState } from "react";

import { Facts } from "../components/Card";
import { Close } from "../components/icons";
import { decimal, percent, signed, token } from "../format";
import { Glyph } from "./Glyph";
import { layerName, tokenOf, type Graph } from "./model";
import classes from "./panel.module.css";
import { VALUE } from "./Tooltip";

interface Props {
  graph: Graph;
  row: number;
  onSelect: (row: number | null) => void;
  onHover: (row: number | null) => void;
}

/** One node: what it is, what feeds it and what it feeds; each entry leads on. */
export function NodePanel({ graph, row, onSelect, onHover }: Props) {
  const node = graph.nodes[row];
  if (!node) return null;
  const where = tokenOf(graph, node);
  return (
    <section className={classes.panel} aria-label="Selected node">
      <div className={classes.head}>
        <div>
          <h2>{node.label}</h2>
          <span className="dim">{node.type}</span>
        </div>
        <ActionIcon variant="subtle" color="gray" aria-label="Close" onClick={() => onSelect(null)}>
          <Close />
        </ActionIcon>
      </div>
      <div className={classes.scroll}>
        <div style={{ padding: "10px 16px 0" }}>
          <Facts
            rows={[
              ["layer", layerName(node.layer, graph.document.summary.n_layers)],
              ...(where === undefined ? [] : [["token", <span key="t" className="mono">{token(where)} <span className="dim">at {node.position}</span></span>] as [string, React.ReactNode]]),
              [VALUE[node.type], decimal(node.value, 3)],
              ["influence", percent(node.influence, 2)],
              ...(node.probability === null || node.probability === undefined ? [] : [["probability", percent(node.probability)] as [string, React.ReactNode]]),
            ]}
          />
        </div>
        <Neighbours title="Inputs" none={noInputs(node.type)} edges={graph.inputs[row] ?? []} ends={graph.edges.source} {...{ graph, onSelect, onHover }} />
        <Neighbours title="Outputs" none="Nothing in this picture reads it." edges={graph.outputs[row] ?? []} ends={graph.edges.target} {...{ graph, onSelect, onHover }} />
      </div>
    </section>
  );
}

function noInputs(type: string): string {
  return type === "feature" || type === "logit" ? "None of its inputs is in this picture." : "A leaf: influence begins here.";
}

interface NeighboursProps extends Omit<Props, "row"> {
  title: string;
  none: string;
  edges: readonly number[];
  ends: Int32Array;
}

const SHOWN = 60;

function Neighbours({ graph, title, none, edges, ends, onSelect, onHover }: NeighboursProps) {
  const [all, setAll] = useState(false);
  const largest = Math.abs(graph.edges.weight[edges[0] ?? -1] ?? 1) || 1;
  return (
    <>
      <h3>
        {title} {edges.length > 0 && <span title="|edge| over the sum of |edges| into its target, among those shown">edge · share</span>}
      </h3>
      {edges.length === 0 && <p className={classes.none}>{none}</p>}
      <ul className={classes.list} aria-label={title}>
        {(all ? edges : edges.slice(0, SHOWN)).map((e) => {
          const other = ends[e] ?? 0;
          const node = graph.nodes[other];
          const weight = graph.edges.weight[e] ?? 0;
          if (!node) return null;
          return (
            <li key={e}>
              <button
                type="button"
                className={classes.entry}
                data-node={node.id}
                onClick={() => onSelect(other)}
                onMouseEnter={() => onHover(other)}
                onMouseLeave={() => onHover(null)}
                onFocus={() => onHover(other)}
                onBlur={() => onHover(null)}
              >
                <Glyph type={node.type} />
                <NodeName graph={graph} row={other} />
                <span className={classes.bar}>
                  <i data-sign={weight < 0 ? "-" : "+"} style={{ width: `${(50 * Math.abs(weight)) / largest}%` }} />
                </span>
                <span className={classes.num}>{signed(weight)}</span>
                <span className={`${classes.num} dim`}>{percent(graph.edges.share[e])}</span>
              </button>
            </li>
          );
        })}
      </ul>
      {!all && edges.length > SHOWN && (
        <Button className={classes.more} variant="subtle" size="compact-xs" onClick={() => setAll(true)}>
          Show all {edges.length}
        </Button>
      )}
    </>
  );
}

/** A node's label and, where the label does not say it, its token. */
export function NodeName({ graph, row }: { graph: Graph; row: number }) {
  const node = graph.nodes[row];
  if (!node) return null;
  const where = node.type === "token" || node.type === "logit" ? undefined : tokenOf(graph, node);
  return (
    <span className={classes.name} title={where === undefined ? node.label : `${node.label} at ${token(where)}`}>
      {node.label} {where !== undefined && <small>{token(where)}</small>}
    </span>
  );
}
