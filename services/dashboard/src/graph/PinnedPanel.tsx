import { ActionIcon, Button, Checkbox, TextInput } from "@mantine/core";
import { useState } from "react";

import { Close } from "../components/icons";
import { percent } from "../format";
import { NodeEntry, type Walking } from "./Neighbours";
import classes from "./panel.module.css";
import { makeGroup, type Pins } from "./pins";
import { LONGEST_NAME, type GraphSearch } from "./search";

interface Props extends Walking {
  selected: number | null;
  view: GraphSearch["view"];
  onView: (view: GraphSearch["view"]) => void;
  onRegroup: (change: (now: Pins) => Pins) => void;
}

/** The pinned nodes: to walk among, to look at alone, to draw as one. */
export function PinnedPanel({ selected, view, onView, onRegroup, ...walking }: Props) {
  const { graph, picture, onPin } = walking;
  const [marked, setMarked] = useState<ReadonlySet<number>>(new Set());
  const [name, setName] = useState("");
  const nodes = picture.pins.map((row) => ({ row, node: graph.nodes[row] }));
  // By id: rows change as nodes are grouped.
  const chosen = nodes.flatMap(({ node }) => (node && marked.has(node.id) ? [node.id] : []));
  const mark = (id: number) => {
    const next = new Set(marked);
    if (!next.delete(id)) next.add(id);
    setMarked(next);
  };
  return (
    <section className={classes.pins} aria-label="Pinned">
      <h2 className={classes.sub}>
        Pinned <span>influence</span>
      </h2>
      <ul className={classes.list} aria-label="Pinned nodes">
        {nodes.map(({ row, node }) => node && (
          <li key={node.id} className={classes.pin}>
            <Checkbox size="xs" aria-label={`Choose ${node.label}`} checked={marked.has(node.id)} onChange={() => mark(node.id)} />
            <ul className={classes.one}>
              <NodeEntry {...walking} row={row} selected={row === selected}>
                <span className={classes.num}>{percent(node.influence)}</span>
              </NodeEntry>
            </ul>
            <ActionIcon variant="subtle" color="gray" size="xs" aria-label={`Unpin ${node.label}`} onClick={() => onPin(row)}>
              <Close />
            </ActionIcon>
          </li>
        ))}
      </ul>
      <form
        className={classes.actions}
        onSubmit={(event) => {
          event.preventDefault();
          onRegroup((now) => makeGroup(now, name, chosen));
          setMarked(new Set());
          setName("");
        }}
      >
        <TextInput size="xs" aria-label="Name of the group" placeholder="name" value={name} maxLength={LONGEST_NAME} onChange={(event) => setName(event.currentTarget.value)} />
        <Button type="submit" size="xs" variant="default" disabled={chosen.length < 2} title="Draw two or more as one">
          Group {chosen.length > 0 ? chosen.length : ""}
        </Button>
        <Button size="xs" variant="default" aria-pressed={view === "pinned"} onClick={() => onView(view === "pinned" ? undefined : "pinned")}>
          {view === "pinned" ? "Whole picture" : "These alone"}
        </Button>
      </form>
    </section>
  );
}
