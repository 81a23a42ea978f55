/** Pan and zoom: screen = world x k + (x, y). Pure. */
export interface View {
  k: number;
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

/** Room for the names of layers at the left, of tokens at the bottom, of logits at the top. */
export const MARGIN = { left: 46, right: 14, top: 58, bottom: 34 };
const MIN_ZOOM = 0.15;
const MAX_ZOOM = 12;

export function fit(world: Size, screen: Size): View {
  const width = Math.max(1, screen.width - MARGIN.left - MARGIN.right);
  const height = Math.max(1, screen.height - MARGIN.top - MARGIN.bottom);
  const k = Math.min(width / world.width, height / world.height, 3);
  return {
    k,
    x: MARGIN.left + (width - k * world.width) / 2,
    y: MARGIN.top + (height - k * world.height) / 2,
  };
}

/** Zoom by `factor`, the point (x, y) of the screen staying where it is. */
export function zoomAt(view: View, factor: number, x: number, y: number): View {
  const k = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, view.k * factor));
  const f = k / view.k;
  return { k, x: x - f * (x - view.x), y: y - f * (y - view.y) };
}

export function pan(view: View, dx: number, dy: number): View {
  return { ...view, x: view.x + dx, y: view.y + dy };
}

export function toWorld(view: View, x: number, y: number): { x: number; y: number } {
  return { x: (x - view.x) / view.k, y: (y - view.y) / view.k };
}

/** Move the view as little as needed for a world point to be well inside the screen. */
export function reveal(view: View, x: number, y: number, screen: Size): View {
  const inset = 6;
  const sx = x * view.k + view.x;
  const sy = y * view.k + view.y;
  const into = (at: number, low: number, high: number) => Math.min(Math.max(at, low), Math.max(low, high)) - at;
  return pan(
    view,
    into(sx, MARGIN.left + inset, screen.width - MARGIN.right - inset),
    into(sy, MARGIN.top + inset, screen.height - MARGIN.bottom - inset),
  );
}
