/** Lines of more points than there is room for. */

/**
 * Which points of a line to draw: of all that share a column of the screen the lowest and the highest, as they follow
 * each other. No peak is lost, and what a column does not show cannot be told apart on it.
 *
 * @param columns Of each point, its column; never falling.
 * @param values Null where there is none.
 * @param from, to The first and the last point that come into question.
 * @param draw Is given one point after the other: there may be 100,000, too many to list anew for each frame.
 */
export function thin(
  columns: ArrayLike<number>,
  values: ArrayLike<number | null | undefined>,
  from: number,
  to: number,
  draw: (point: number) => void,
): void {
  let column = NaN;
  let low = -1;
  let high = -1;
  const keep = () => {
    if (low < 0) return;
    draw(Math.min(low, high));
    if (low !== high) draw(Math.max(low, high));
  };
  for (let i = from; i <= to; i += 1) {
    const value = values[i];
    if (value === null || value === undefined) continue;
    if (columns[i] !== column) {
      keep();
      column = columns[i] ?? NaN;
      low = high = i;
    } else if (value < (values[low] ?? value)) low = i;
    else if (value > (values[high] ?? value)) high = i;
  }
  keep();
}
