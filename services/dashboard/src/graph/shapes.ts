import type { PictureNode } from "./model";

interface PathLike {
  arc: CanvasPath["arc"];
  moveTo: CanvasPath["moveTo"];
  lineTo: CanvasPath["lineTo"];
  closePath: CanvasPath["closePath"];
}

/** Feature: circle. Group: hexagon. Error: diamond. Token, position, logit: square. Bias: triangle. */
export function shape(path: PathLike, type: PictureNode["type"], x: number, y: number, r: number): void {
  switch (type) {
    case "feature":
      path.moveTo(x + r, y);
      path.arc(x, y, r, 0, 2 * Math.PI);
      return;
    case "group":
      polygon(path, x, y, r * 1.25, [[-0.5, -0.87], [0.5, -0.87], [1, 0], [0.5, 0.87], [-0.5, 0.87], [-1, 0]]);
      return;
    case "error":
      polygon(path, x, y, r * 1.2, [[0, -1], [1, 0], [0, 1], [-1, 0]]);
      return;
    case "bias":
      polygon(path, x, y, r * 0.95, [[0, -1], [1, 0.8], [-1, 0.8]]);
      return;
    default:
      polygon(path, x, y, r * 0.95, [[-1, -1], [1, -1], [1, 1], [-1, 1]]);
  }
}

function polygon(path: PathLike, x: number, y: number, r: number, corners: [number, number][]): void {
  corners.forEach(([dx, dy], i) => {
    if (i === 0) path.moveTo(x + dx * r, y + dy * r);
    else path.lineTo(x + dx * r, y + dy * r);
  });
  path.closePath();
}
