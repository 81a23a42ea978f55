import { ActionIcon, Button, TextInput } from "@mantine/core";
import { useState } from "react";

import { Facts } from "../components/Card";
import { Close } from "../components/icons";
import { decimal, percent, signed, token } from "../format";
import { layerName, tokenOf, type Graph, type GroupNode, type PictureNode } from "./model";
import { Neighbours, type Walking } from "./Neighbours";
import classes from "./panel.module.css";
import { LONGEST_NAME } from "./search";
import { VALUE } from "./Tooltip";

interface Props extends Walking {
  row: number;
  onUngroup: (group: number) => void;
  onRename: (group: number, name: string) => void;
  /** What can be done with the node. */
  children?: React.ReactNode;
}

/** One node: what it is, what feeds it and what it feeds; each entry leads on. */
export function NodePanel({ row, onUngroup, onRename, children, ...walking }: Props) {
  const { graph, picture, onSelect, onPin } = walking;
  const node = graph.nodes[row];
  if (!node) return null;
  const pinned = picture.pins.includes(row);
  return (
    <section className={classes.panel} aria-label="Selected node">
      <div className={classes.head}>
        <div>
          <h2>{node.label}</h2>
          <span className="dim">{node.type === "group" ? `group of ${node.members.length} nodes` : node.type}</span>
        </div>
        {node.type === "group" && (
          <Button variant="default" size="compact-xs" onClick={() => onUngroup(node.group)}>
            Ungroup
          </Button>
        )}
        <Button variant="default" size="compact-xs" aria-pressed={pinned} onClick={() => onPin(row)}>
          {pinned ? "Unpin" : "Pin"}
        </Button>
        <ActionIcon variant="subtle" color="gray" size="sm" aria-label="Close" onClick={() => onSelect(null)}>
          <Close />
        </ActionIcon>
      </div>
      <div className={classes.scroll}>
        <div className={classes.facts}>
          {node.type === "group" && <Rename key={node.label} name={node.label} onRename={(name) => onRename(node.group, name)} />}
          <Facts rows={node.type === "group" ? groupFacts(graph, node) : nodeFacts(graph, node)} />
        </div>
        {children}
        <Neighbours title="Inputs" none={noInputs(node.type)} edges={graph.inputs[row] ?? []} {...walking} />
        <Neighbours title="Outputs" none="Nothing in this picture reads it." edges={graph.outputs[row] ?? []} {...walking} />
      </div>
    </section>
  );
}

type Fact = [string, React.ReactNode];

function nodeFacts(graph: Graph, node: Exclude<PictureNode, GroupNode>): Fact[] {
  const where = tokenOf(graph, node);
  const facts: Fact[] = [["layer", layerName(node.layer, graph.document.summary.n_layers)]];
  if (where !== undefined) {
    facts.push(["token", <span key="t" className="mono">{token(where)} <span className="dim">at {node.position}</span></span>]);
  }
  facts.push([VALUE[node.type], decimal(node.value, 3)], ["influence", percent(node.influence, 2)]);
  if (node.probability !== null && node.probability !== undefined) facts.push(["probability", percent(node.probability)]);
  return facts;
}

function groupFacts(graph: Graph, { members, inner, influence }: GroupNode): Fact[] {
  const layers = [...new Set(members.map((node) => node.layer))].sort((a, b) => a - b);
  return [
    ["layers", layers.map((layer) => layerName(layer, graph.document.summary.n_layers)).join(", ")],
    ["members", members.map((node) => node.label).join(", ")],
    ["edges inside", inner.count === 0 ? "none" : `${inner.count}, together ${signed(inner.weight)}`],
    ["influence", <span key="i" title="Of its members, less what one passes to another">{percent(influence, 2)}</span>],
  ];
}

function noInputs(type: PictureNode["type"]): string {
  return type === "feature" || type === "logit" || type === "group" ? "None of its inputs is in this picture." : "A leaf: influence begins here.";
}

function Rename({ name, onRename }: { name: string; onRename: (name: string) => void }) {
  const [draft, setDraft] = useState(name);
  const tell = () => {
    if (draft.trim() !== name) onRename(draft);
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        tell();
      }}
    >
      <TextInput
        size="xs"
        mb={8}
        aria-label="Name of this group"
        value={draft}
        maxLength={LONGEST_NAME}
        onChange={(event) => setDraft(event.currentTarget.value)}
        onBlur={tell}
      />
    </form>
  );
}
