import { drawAxes, drawBands } from "./axes";
import { drawChosenEdges, drawEdges, drawLogitNames, drawNames, drawNodes, drawRing, screen, type Scene } from "./draw";
import { HitGrid } from "./hit";
import type { Layout } from "./layout";
import type { Graph } from "./model";
import type { Palette } from "./palette";
import type { Shown } from "./prune";
import { prepare } from "./useCanvas";
import { fit, pan, reveal, toWorld, zoomAt, type Size, type View } from "./view";

/** What stands out: everything else fades. */
export interface Focus {
  nodes: readonly number[];
  edges: readonly number[];
}

/** What is drawn, and how. */
export interface Picture extends Shown {
  /** Rows of pinned nodes: they have their names beside them. */
  pins: readonly number[];
  /** The pinned nodes are all there is: nothing marks them, and edges are as strong as their share of their target. */
  pinsAlone: boolean;
}

const NOTHING: Picture = { nodes: new Uint8Array(), nodeCount: 0, edges: new Int32Array(), pins: [], pinsAlone: false };

/** Most edges drawn while the view is zoomed; the rest follow when it rests. */
const MOVING_EDGES = 2000;
const REST_MS = 120;
const REACH_PX = 22;

/**
 * Draws a graph on two canvases: all of it below, what stands out above. Hovering repaints only the upper one, and
 * paints happen at most once a frame.
 */
export class GraphPainter {
  private view: View;
  private readonly grid: HitGrid;
  private focus: Focus | null = null;
  private rings: readonly number[] = [];
  private picture = NOTHING;
  private moving = false;
  private frame = 0;
  private baseStale = true;
  /** Where the view was when the lower canvas was painted; null where that shows something else than it should. */
  private painted: View | null = null;
  private rest: ReturnType<typeof setTimeout> | undefined;
  private fitted = true;

  constructor(
    private readonly base: HTMLCanvasElement,
    private readonly upper: HTMLCanvasElement,
    private readonly graph: Graph,
    private readonly layout: Layout,
    private palette: Palette,
    private size: Size,
  ) {
    this.grid = new HitGrid(layout);
    this.view = fit(layout, size);
  }

  destroy(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.rest);
  }

  resize(size: Size): void {
    this.size = size;
    if (this.fitted) this.view = fit(this.layout, size);
    this.repaint();
  }

  recolour(palette: Palette): void {
    this.palette = palette;
    this.repaint();
  }

  show(picture: Picture): void {
    this.picture = picture;
    this.repaint();
  }

  emphasise(focus: Focus | null, rings: readonly number[]): void {
    this.focus = focus;
    this.rings = rings;
    this.schedule();
  }

  fit(): void {
    this.fitted = true;
    this.view = fit(this.layout, this.size);
    this.repaint();
  }

  pan(dx: number, dy: number): void {
    this.move(pan(this.view, dx, dy));
  }

  zoom(factor: number, x = this.size.width / 2, y = this.size.height / 2): void {
    this.move(zoomAt(this.view, factor, x, y));
  }

  /** Move to a node, if it stands anywhere. */
  reveal(row: number): void {
    if (!Number.isFinite(this.layout.x[row])) return;
    const view = reveal(this.view, this.layout.x[row] ?? 0, this.layout.y[row] ?? 0, this.size);
    if (view.x !== this.view.x || view.y !== this.view.y) this.move(view);
  }

  /** The node under a point of the screen, or near it. */
  hit(x: number, y: number): number | null {
    const at = toWorld(this.view, x, y);
    return this.grid.nearest(at.x, at.y, REACH_PX / this.view.k, this.picture.nodes);
  }

  /** Where a node stands on the screen, if it stands anywhere. */
  place(row: number): { x: number; y: number } | null {
    return Number.isFinite(this.layout.x[row]) ? screen(this.scene(), row) : null;
  }

  private move(view: View): void {
    this.view = view;
    this.fitted = false;
    this.moving = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.moving = false;
      this.repaint();
    }, REST_MS);
    this.baseStale = true;
    this.schedule();
  }

  private repaint(): void {
    this.painted = null;
    this.baseStale = true;
    this.schedule();
  }

  private schedule(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.baseStale) this.paintBase();
      this.baseStale = false;
      this.paintUpper();
    });
  }

  private scene(): Scene {
    return { graph: this.graph, layout: this.layout, shown: this.picture, palette: this.palette, view: this.view, size: this.size };
  }

  private paintBase(): void {
    if (this.dragged()) return;
    this.painted = this.view;
    this.base.style.transform = "";
    const ctx = prepare(this.base, this.size);
    if (!ctx) return;
    const scene = this.scene();
    drawBands(ctx, scene);
    const { edges, pins, pinsAlone } = this.picture;
    if (pinsAlone) drawChosenEdges(ctx, scene, edges);
    else drawEdges(ctx, scene, this.moving ? edges.subarray(0, MOVING_EDGES) : edges, edges.length <= MOVING_EDGES);
    drawNodes(ctx, scene);
    if (!pinsAlone) for (const row of pins) drawRing(ctx, scene, row, this.palette.ink, 1);
    drawLogitNames(ctx, scene);
    drawNames(ctx, scene, pins);
  }

  /** Move what is painted along with the view, however much that is; what comes in at the edges waits until it rests. */
  private dragged(): boolean {
    const { painted, view } = this;
    if (!this.moving || painted?.k !== view.k) return false;
    this.base.style.transform = `translate(${view.x - painted.x}px, ${view.y - painted.y}px)`;
    return true;
  }

  private paintUpper(): void {
    const ctx = prepare(this.upper, this.size);
    if (!ctx) return;
    const scene = this.scene();
    this.base.toggleAttribute("data-faded", this.focus !== null);
    if (this.focus) {
      drawChosenEdges(ctx, scene, this.focus.edges);
      drawNodes(ctx, scene, this.focus.nodes);
      const { pins } = this.picture;
      drawNames(ctx, scene, this.focus.nodes.filter((row) => pins.includes(row)));
    }
    for (const row of this.rings) drawRing(ctx, scene, row);
    drawAxes(ctx, scene);
  }
}
