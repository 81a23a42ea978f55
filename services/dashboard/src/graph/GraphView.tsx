import { useMemo, useState } from "react";

import type { GraphDocument } from "../api/types";
import { Empty } from "../components/States";
import classes from "../pages/Graph.module.css";
import { Controls, firstFlow } from "./Controls";
import { GraphCanvas } from "./GraphCanvas";
import { edgesAbove, groupNodes, indexGraph, pathRows } from "./model";
import { NodePanel } from "./NodePanel";
import { OverviewPanel } from "./OverviewPanel";
import type { Picture } from "./painter";
import { PinnedPanel } from "./PinnedPanel";
import { renameGroup, togglePin, ungroup, type Pins } from "./pins";
import { carriedBefore, keptRows, rowsAlone, shown } from "./prune";
import type { GraphSearch } from "./search";
import { sitesOf } from "./steering";
import { SteerPanel } from "./SteerPanel";
import { useDraft } from "./useDraft";

interface Props {
  /** Id of the stored graph. */
  id: string;
  document: GraphDocument;
  /** What the URL says; all that is chosen here lives there. */
  search: GraphSearch;
  onChange: (change: Partial<GraphSearch>, how?: { replace: boolean }) => void;
}

export function GraphView({ id, document, search, onChange }: Props) {
  // Indexed once: a stored graph does not change, and another one has another key.
  const [alone] = useState(() => ({ graph: indexGraph(document), before: carriedBefore(document.nodes) }));
  const graph = useMemo(() => groupNodes(alone.graph, search.groups ?? []), [alone, search.groups]);
  const [prune, setPrune] = useDraft(search.prune ?? 1, (share) => onChange({ prune: share < 1 ? share : undefined }, { replace: true }));
  const [flow, setFlow] = useDraft(search.flow ?? firstFlow(alone.graph.edges), (exponent) => onChange({ flow: exponent }, { replace: true }));
  const [hovered, setHovered] = useState<number | null>(null);

  const selected = search.node === undefined ? null : (graph.rowOf.get(search.node) ?? null);
  const path = search.path !== undefined && search.path in document.paths ? search.path : null;
  const pins = useMemo(
    () => [...new Set((search.pins ?? []).map((id) => graph.rowOf.get(id)).filter((row) => row !== undefined))],
    [graph, search.pins],
  );
  const pinsAlone = search.view === "pinned" && pins.length > 0;
  // Apart from the rest: the pinned nodes keep their places while one walks among them.
  const pinned = useMemo(() => ({ ...shown(graph, rowsAlone(graph, pins), graph.edges.length), pins, pinsAlone: true }), [graph, pins]);
  const pruned = useMemo((): Picture => {
    const always = [...pins, ...(path === null ? [] : (pathRows(graph, path)?.nodes ?? [])), ...(selected === null ? [] : [selected])];
    const rows = keptRows(graph, alone.before, prune, always);
    return { ...shown(graph, rows, edgesAbove(graph.edges, 10 ** flow)), pins, pinsAlone: false };
  }, [graph, alone, prune, flow, pins, path, selected]);
  const picture = pinsAlone ? pinned : pruned;

  const select = (row: number | null) => {
    setHovered(null);
    onChange({ node: row === null ? undefined : graph.nodes[row]?.id, path: undefined, steer: undefined }, { replace: row === null });
  };
  const regroup = (change: (now: Pins) => Pins) => {
    setHovered(null);
    onChange(change(search));
  };
  const pin = (row: number) => {
    const node = graph.nodes[row];
    if (node) regroup((now) => togglePin(now, node.id));
  };
  if (graph.nodes.length === 0) {
    return <Empty title="This picture has no nodes">Attribute again with a larger `view_nodes`; the whole graph is among the job's artifacts.</Empty>;
  }
  const sites = selected === null ? [] : sitesOf(graph.nodes[selected]);
  const walking = { graph, picture, onSelect: select, onPin: pin, onHover: setHovered };
  return (
    <div className={classes.body}>
      <div className={classes.main}>
        <GraphCanvas {...walking} selected={selected} hovered={hovered} path={path} />
        <Controls {...{ picture, prune, flow }} edges={graph.edges} nodeCount={graph.nodes.length} onPrune={setPrune} onFlow={setFlow} />
      </div>
      <aside className={classes.side}>
        {selected === null ? (
          <OverviewPanel {...walking} path={path} onPath={(index) => onChange({ node: undefined, path: index ?? undefined }, { replace: index === null })} />
        ) : (
          <NodePanel
            key={selected}
            {...walking}
            row={selected}
            onUngroup={(group) => regroup((now) => ungroup(now, group))}
            onRename={(group, name) => regroup((now) => renameGroup(now, group, name))}
          >
            {sites.length > 0 && <SteerPanel {...{ graph, id, sites }} job={search.steer} onJob={(steer) => onChange({ steer })} />}
          </NodePanel>
        )}
        {pins.length > 0 && (
          <PinnedPanel {...walking} selected={selected} view={search.view} onView={(view) => onChange({ view })} onRegroup={regroup} />
        )}
      </aside>
    </div>
  );
}
