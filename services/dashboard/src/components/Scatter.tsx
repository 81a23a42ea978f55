import { front, ticks, type Spot } from "../charts/runs";
import { short } from "../format";
import classes from "./Scatter.module.css";

export interface Point extends Spot {
  label: string;
  colour: string;
}

interface Props {
  label: string;
  x: string;
  y: string;
  points: readonly Point[];
}

const [WIDTH, HEIGHT] = [720, 360];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 16, 12, 44];

/** Points by two numbers of which less is better, and through the best of them their Pareto front. */
export function Scatter({ label, x, y, points }: Props) {
  const across = scale(points.map((point) => point.x), LEFT, WIDTH - RIGHT);
  const up = scale(points.map((point) => point.y), HEIGHT - BOTTOM, TOP);
  const best = front(points);
  return (
    <svg className={classes.scatter} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
      {across.marks.map((mark) => (
        <g key={mark}>
          <line x1={across.place(mark)} x2={across.place(mark)} y1={TOP} y2={HEIGHT - BOTTOM} />
          <text x={across.place(mark)} y={HEIGHT - BOTTOM + 16} textAnchor="middle">
            {short(mark)}
          </text>
        </g>
      ))}
      {up.marks.map((mark) => (
        <g key={mark}>
          <line x1={LEFT} x2={WIDTH - RIGHT} y1={up.place(mark)} y2={up.place(mark)} />
          <text x={LEFT - 8} y={up.place(mark) + 4} textAnchor="end">
            {short(mark)}
          </text>
        </g>
      ))}
      <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 8} textAnchor="middle">
        {x}
      </text>
      <text transform={`translate(12 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`} textAnchor="middle">
        {y}
      </text>
      <polyline points={best.map((point) => `${across.place(point.x)},${up.place(point.y)}`).join(" ")} />
      {points.map((point, i) => (
        <circle key={i} cx={across.place(point.x)} cy={up.place(point.y)} r={4.5} fill={point.colour} data-front={best.includes(point) || undefined}>
          <title>{`${point.label}: ${x} ${short(point.x)}, ${y} ${short(point.y)}`}</title>
        </circle>
      ))}
    </svg>
  );
}

function scale(values: readonly number[], start: number, end: number): { marks: number[]; place: (value: number) => number } {
  const marks = ticks(Math.min(...values), Math.max(...values));
  const [low, high] = [marks[0] ?? 0, marks.at(-1) ?? 1];
  return { marks, place: (value) => start + ((value - low) / (high - low)) * (end - start) };
}
