import { useEffect, useRef, type KeyboardEvent, type PointerEvent, type RefObject } from "react";

import type { Layout } from "./layout";
import type { Graph } from "./model";
import type { GraphPainter } from "./painter";

interface Options {
  painter: GraphPainter | null;
  graph: Graph;
  layout: Layout | null;
  canvas: RefObject<HTMLCanvasElement | null>;
  selected: number | null;
  /** 1 for the rows that are drawn. */
  among: Uint8Array;
  onPin: (row: number) => void;
  onSelect: (row: number | null) => void;
  onHover: (row: number | null) => void;
}

const CLICK_PX = 4;
const PAN_PX = 60;

/** Drag pans, the wheel zooms, a click selects, with Ctrl or Cmd it pins; the keyboard walks along the strongest edges. */
export function useGestures({ painter, graph, layout, canvas, selected, among, onSelect, onPin, onHover }: Options) {
  const drag = useRef<{ x: number; y: number; moved: boolean } | null>(null);

  useEffect(() => {
    const element = canvas.current;
    if (!element || !painter) return;
    // React listens to wheels passively, and a passive listener cannot keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      painter.zoom(Math.exp(-event.deltaY * unit * 0.0016), event.offsetX, event.offsetY);
      onHover(null);
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [canvas, painter, onHover]);

  return {
    onPointerDown: (event: PointerEvent<HTMLCanvasElement>) => {
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      drag.current = { x: event.clientX, y: event.clientY, moved: false };
    },
    onPointerMove: (event: PointerEvent<HTMLCanvasElement>) => {
      const at = drag.current;
      const target = event.currentTarget;
      if (at) {
        const [dx, dy] = [event.clientX - at.x, event.clientY - at.y];
        if (!at.moved && Math.hypot(dx, dy) < CLICK_PX) return;
        drag.current = { x: event.clientX, y: event.clientY, moved: true };
        target.dataset.over = "drag";
        onHover(null);
        painter?.pan(dx, dy);
        return;
      }
      const row = painter?.hit(event.nativeEvent.offsetX, event.nativeEvent.offsetY) ?? null;
      target.dataset.over = row === null ? "" : "node";
      onHover(row);
    },
    onPointerUp: (event: PointerEvent<HTMLCanvasElement>) => {
      const at = drag.current;
      drag.current = null;
      event.currentTarget.dataset.over = "";
      if (!at || at.moved) return;
      const row = painter?.hit(event.nativeEvent.offsetX, event.nativeEvent.offsetY) ?? null;
      if (!event.ctrlKey && !event.metaKey) onSelect(row);
      else if (row !== null) onPin(row);
    },
    onPointerCancel: () => {
      drag.current = null;
    },
    onPointerLeave: () => onHover(null),
    onKeyDown: (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !layout) return;
      if (event.shiftKey && event.key.startsWith("Arrow")) panBy(painter, event.key);
      else if (event.key === "+" || event.key === "=") painter?.zoom(1.35);
      else if (event.key === "-") painter?.zoom(1 / 1.35);
      else if (event.key === "0") painter?.fit();
      else if (event.key === "Escape") onSelect(null);
      else if (event.key === "p" && selected !== null) onPin(selected);
      else if (event.key.startsWith("Arrow")) onSelect(walk(graph, layout, among, selected, event.key));
      else return;
      event.preventDefault();
    },
  };
}

function panBy(painter: GraphPainter | null, key: string): void {
  const [dx, dy] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key] ?? [0, 0];
  painter?.pan(PAN_PX * (dx ?? 0), PAN_PX * (dy ?? 0));
}

/** The node `among` those drawn that an arrow key leads to; from nothing, to the likeliest logit. */
export function walk(graph: Graph, layout: Pick<Layout, "x">, among: Uint8Array, from: number | null, key: string): number | null {
  if (from === null) {
    const best = graph.nodes.reduce((best, node, row) => {
      if (node.type !== "logit" || !among[row]) return best;
      return best === -1 || (node.probability ?? 0) > (graph.nodes[best]?.probability ?? 0) ? row : best;
    }, -1);
    return best === -1 ? null : best;
  }
  const strongest = (edges: readonly number[] | undefined, ends: Int32Array) =>
    edges?.map((e) => ends[e] ?? from).find((row) => among[row]) ?? from;
  if (key === "ArrowUp") return strongest(graph.outputs[from], graph.edges.target);
  if (key === "ArrowDown") return strongest(graph.inputs[from], graph.edges.source);
  const layer = graph.nodes[from]?.layer;
  const across = [...graph.nodes.keys()].filter((row) => graph.nodes[row]?.layer === layer && among[row]);
  across.sort((a, b) => (layout.x[a] ?? 0) - (layout.x[b] ?? 0) || a - b);
  const at = across.indexOf(from) + (key === "ArrowRight" ? 1 : -1);
  return across[Math.min(across.length - 1, Math.max(0, at))] ?? from;
}
