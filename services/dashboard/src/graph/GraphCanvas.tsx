import { ActionIcon, useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef, useState } from "react";

import { Fit, Minus, Plus } from "../components/icons";
import classes from "./GraphCanvas.module.css";
import { useGestures } from "./gestures";
import { DOTS, layoutGraph, NAMED } from "./layout";
import { pathRows, type Graph } from "./model";
import { GraphPainter, type Focus, type Picture } from "./painter";
import { readPalette } from "./palette";
import { Tooltip } from "./Tooltip";
import { useSize } from "./useCanvas";

interface Props {
  graph: Graph;
  picture: Picture;
  selected: number | null;
  hovered: number | null;
  path: number | null;
  onSelect: (row: number | null) => void;
  onPin: (row: number) => void;
  onHover: (row: number | null) => void;
}

const ZOOM_STEP = 1.35;

export function GraphCanvas({ graph, picture, selected, hovered, path, onSelect, onPin, onHover }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const upper = useRef<HTMLCanvasElement>(null);
  const [painter, setPainter] = useState<GraphPainter | null>(null);
  const size = useSize(box);
  const scheme = useComputedColorScheme("light");
  const aspect = useAspect(size?.width, size?.height);
  // In the whole picture nodes keep their places while others come and go.
  const placed = picture.pinsAlone ? picture.nodes : undefined;
  const layout = useMemo(() => {
    const { tokens, n_layers } = graph.document.summary;
    return aspect === null ? null : layoutGraph(graph.nodes, tokens.length, n_layers, aspect, placed, placed ? NAMED : DOTS);
  }, [graph, aspect, placed]);

  useEffect(() => {
    if (!layout || !base.current || !upper.current || !box.current) return;
    const { clientWidth: width, clientHeight: height } = box.current;
    const made = new GraphPainter(base.current, upper.current, graph, layout, readPalette(box.current), { width, height });
    setPainter(made);
    return () => {
      made.destroy();
      setPainter(null);
    };
  }, [graph, layout]);

  useEffect(() => {
    if (size) painter?.resize(size);
  }, [painter, size]);
  useEffect(() => {
    if (box.current) painter?.recolour(readPalette(box.current));
  }, [painter, scheme]);
  useEffect(() => painter?.show(picture), [painter, picture]);
  const focus = useMemo(
    () => focusOf(graph, picture.nodes, selected ?? (path === null ? hovered : null), path),
    [graph, picture, selected, hovered, path],
  );
  useEffect(() => {
    painter?.emphasise(focus, [selected, hovered].filter((row) => row !== null));
  }, [painter, focus, selected, hovered]);
  useEffect(() => {
    if (selected !== null) painter?.reveal(selected);
  }, [painter, selected]);

  const gestures = useGestures({ painter, graph, layout, canvas: upper, selected, among: picture.nodes, onSelect, onPin, onHover });
  const tip = hovered === null ? null : painter?.place(hovered);
  return (
    <div ref={box} className={classes.box}>
      <canvas ref={base} aria-hidden="true" />
      <canvas
        ref={upper}
        className={classes.upper}
        tabIndex={0}
        role="application"
        aria-label={
          `Attribution graph, ${picture.nodeCount} nodes drawn. Arrow up: strongest output. Arrow down: strongest input. ` +
          "Arrow left and right: neighbours in the layer. P: pin or unpin. Plus, minus: zoom. 0: fit. Escape: nothing selected."
        }
        data-selected={selected === null ? undefined : graph.nodes[selected]?.id}
        {...gestures}
      />
      <div className={classes.tools}>
        <ActionIcon variant="default" aria-label="Zoom in" onClick={() => painter?.zoom(ZOOM_STEP)}>
          <Plus />
        </ActionIcon>
        <ActionIcon variant="default" aria-label="Zoom out" onClick={() => painter?.zoom(1 / ZOOM_STEP)}>
          <Minus />
        </ActionIcon>
        <ActionIcon variant="default" aria-label="Fit the graph" onClick={() => painter?.fit()}>
          <Fit />
        </ActionIcon>
      </div>
      {hovered !== null && tip && size && <Tooltip key={hovered} graph={graph} row={hovered} at={tip} within={size} />}
    </div>
  );
}

/** The shape of the box when it first has one: a layout that followed each resize would lose the reader. */
function useAspect(width: number | undefined, height: number | undefined): number | null {
  const [aspect, setAspect] = useState<number | null>(null);
  if (aspect === null && width && height) setAspect(width / height);
  return aspect;
}

/** A node with its neighbours among those drawn, or a path; nothing where the node itself is not drawn. */
function focusOf(graph: Graph, among: Uint8Array, row: number | null, path: number | null): Focus | null {
  if (row !== null) {
    if (!among[row]) return null;
    const { source, target } = graph.edges;
    const drawn = (e: number) => among[source[e] ?? row] && among[target[e] ?? row];
    const edges = [...(graph.inputs[row] ?? []), ...(graph.outputs[row] ?? [])].filter(drawn);
    const nodes = new Set([row]);
    for (const e of edges) {
      nodes.add(source[e] ?? row);
      nodes.add(target[e] ?? row);
    }
    return { nodes: [...nodes], edges };
  }
  const steps = path === null ? null : pathRows(graph, path);
  return steps && steps.nodes.every((step) => among[step]) ? steps : null;
}
