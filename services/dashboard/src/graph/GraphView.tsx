import { useState } from "react";

import type { GraphDocument } from "../api/types";
import { Empty } from "../components/States";
import classes from "../pages/Graph.module.css";
import { Controls, firstThreshold } from "./Controls";
import { GraphCanvas } from "./GraphCanvas";
import { edgesAbove, indexGraph } from "./model";
import { NodePanel } from "./NodePanel";
import { OverviewPanel } from "./OverviewPanel";

interface Props {
  document: GraphDocument;
  /** Id of the selected node, index of the highlighted path; both live in the URL. */
  node: number | undefined;
  path: number | undefined;
  onChange: (chosen: { node?: number; path?: number }) => void;
}

export function GraphView({ document, node, path, onChange }: Props) {
  // Indexed once: a stored graph does not change, and another one has another key.
  const [graph] = useState(() => indexGraph(document));
  const [threshold, setThreshold] = useState(() => firstThreshold(graph.edges));
  const [hovered, setHovered] = useState<number | null>(null);
  const selected = node === undefined ? null : (graph.rowOf.get(node) ?? null);
  const chosenPath = path !== undefined && path in document.paths ? path : null;
  const select = (row: number | null) => {
    setHovered(null);
    onChange(row === null ? {} : { node: graph.nodes[row]?.id });
  };
  if (graph.nodes.length === 0) {
    return <Empty title="This picture has no nodes">Attribute again with a larger `view_nodes`; the whole graph is among the job's artifacts.</Empty>;
  }
  return (
    <div className={classes.body}>
      <div className={classes.main}>
        <GraphCanvas
          graph={graph}
          edgeCount={edgesAbove(graph.edges, 10 ** threshold)}
          selected={selected}
          hovered={hovered}
          path={chosenPath}
          onSelect={select}
          onHover={setHovered}
        />
        <Controls edges={graph.edges} threshold={threshold} onThreshold={setThreshold} />
      </div>
      <aside className={classes.side}>
        {selected === null ? (
          <OverviewPanel
            graph={graph}
            path={chosenPath}
            onPath={(index) => onChange(index === null ? {} : { path: index })}
            onSelect={select}
            onHover={setHovered}
          />
        ) : (
          <NodePanel key={selected} graph={graph} row={selected} onSelect={select} onHover={setHovered} />
        )}
      </aside>
    </div>
  );
}
