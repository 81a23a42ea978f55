import { Button } from "@mantine/core";
import { useState } from "react";

import { percent, signed, token } from "../format";
import { Glyph } from "./Glyph";
import { bySign, tokenOf, type Graph } from "./model";
import type { Picture } from "./painter";
import classes from "./panel.module.css";

/** What leads from any list to its nodes. */
export interface Walking {
  graph: Graph;
  picture: Picture;
  onSelect: (row: number | null) => void;
  onPin: (row: number) => void;
  onHover: (row: number | null) => void;
}

interface Props extends Walking {
  title: "Inputs" | "Outputs";
  none: string;
  edges: readonly number[];
}

/** A node's edges on one side: those that excite, then those that inhibit. */
export function Neighbours({ title, none, edges, ...walking }: Props) {
  const { excitatory, inhibitory } = bySign(walking.graph.edges, edges);
  const largest = Math.abs(walking.graph.edges.weight[edges[0] ?? -1] ?? 1) || 1;
  const list = { ...walking, ends: title === "Inputs" ? walking.graph.edges.source : walking.graph.edges.target, largest };
  return (
    <>
      <h3>
        <span className={classes.side}>
          {title}
          {edges.length > 0 && (
            <em title="What each edge carries on this prompt, attention patterns and norm scales as they are in it. This graph holds no connections over all prompts.">
              this prompt
            </em>
          )}
        </span>
        {edges.length > 0 && <span title="|edge| over the sum of |edges| into its target, among those here">edge · share of |in|</span>}
      </h3>
      {edges.length === 0 && <p className={classes.none}>{none}</p>}
      <SignedList {...list} name={`Excitatory ${title.toLowerCase()}`} edges={excitatory} />
      <SignedList {...list} name={`Inhibitory ${title.toLowerCase()}`} edges={inhibitory} />
    </>
  );
}

interface SignedListProps extends Walking {
  name: string;
  edges: readonly number[];
  ends: Int32Array;
  /** The length of the longest bar. */
  largest: number;
}

const SHOWN = 40;

function SignedList({ name, edges, ends, largest, graph, ...walking }: SignedListProps) {
  const [all, setAll] = useState(false);
  if (edges.length === 0) return null;
  const sum = edges.reduce((total, e) => total + (graph.edges.weight[e] ?? 0), 0);
  return (
    <>
      <h4>
        {name} <span>{edges.length} · {signed(sum)}</span>
      </h4>
      <ul className={classes.list} aria-label={name}>
        {(all ? edges : edges.slice(0, SHOWN)).map((e) => {
          const weight = graph.edges.weight[e] ?? 0;
          return (
            <NodeEntry key={e} graph={graph} row={ends[e] ?? 0} {...walking}>
              <span className={classes.bar}>
                <i data-sign={weight < 0 ? "-" : "+"} style={{ width: `${(100 * Math.abs(weight)) / largest}%` }} />
              </span>
              <span className={classes.num}>{signed(weight)}</span>
              <span className={`${classes.num} dim`}>{percent(graph.edges.share[e])}</span>
            </NodeEntry>
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

interface EntryProps extends Walking {
  row: number;
  selected?: boolean;
  children?: React.ReactNode;
}

/** A node in a list: hovering shows it in the picture, a click leads to it, Ctrl or Cmd with a click pins it. */
export function NodeEntry({ graph, picture, row, selected, children, onSelect, onPin, onHover }: EntryProps) {
  const node = graph.nodes[row];
  if (!node) return null;
  const pinned = picture.pins.includes(row);
  return (
    <li>
      <button
        type="button"
        className={classes.entry}
        data-node={node.id}
        data-drawn={picture.nodes[row] === 1}
        aria-pressed={selected}
        onClick={(event) => (event.ctrlKey || event.metaKey ? onPin(row) : onSelect(row))}
        onMouseEnter={() => onHover(row)}
        onMouseLeave={() => onHover(null)}
        onFocus={() => onHover(row)}
        onBlur={() => onHover(null)}
      >
        <span className={pinned ? classes.pinned : undefined} title={pinned ? "pinned" : undefined}>
          <Glyph type={node.type} />
        </span>
        <NodeName graph={graph} row={row} />
        {children}
      </button>
    </li>
  );
}

/** A node's label and, where the label does not say it, its token. */
function NodeName({ graph, row }: { graph: Graph; row: number }) {
  const node = graph.nodes[row];
  if (!node) return null;
  const where = ["token", "logit", "group"].includes(node.type) ? undefined : tokenOf(graph, node);
  return (
    <span className={classes.name} title={where === undefined ? node.label : `${node.label} at ${token(where)}`}>
      {node.label} {where !== undefined && <small>{token(where)}</small>}
    </span>
  );
}
