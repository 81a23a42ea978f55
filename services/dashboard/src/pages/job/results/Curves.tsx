import { ticks } from "../../../charts/runs";
import { decimal, percent, short } from "../../../format";
import classes from "./results.module.css";

export interface CurvePoint {
  /** Of the graph's features, the most influential first. */
  fraction: number;
  features: number;
  /** The target with every feature ablated but these. */
  keep: number;
  /** The target with these ablated. */
  ablate: number;
}

interface Props {
  /** The target in the model as it is. */
  whole: number;
  /** The target with every feature ablated. */
  empty: number;
  points: readonly CurvePoint[];
}

const [WIDTH, HEIGHT] = [640, 230];
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 118, 12, 40];

/** What the target is with the first features kept alone, and with them taken away; equally far apart, for fractions are powers. */
export function Curves({ whole, empty, points }: Props) {
  const values = [whole, empty, ...points.flatMap((point) => [point.keep, point.ablate])];
  const marks = ticks(Math.min(...values), Math.max(...values));
  const [low, high] = [marks[0] ?? 0, marks.at(-1) ?? 1];
  const x = (i: number) => LEFT + (i / Math.max(1, points.length - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const last = points.at(-1);
  return (
    <svg className={classes.curve} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={words(whole, empty, points)}>
      {marks.map((mark) => (
        <g key={mark}>
          <line x1={LEFT} x2={WIDTH - RIGHT} y1={y(mark)} y2={y(mark)} />
          <text x={LEFT - 8} y={y(mark) + 4} textAnchor="end">
            {short(mark)}
          </text>
        </g>
      ))}
      {points.map((point, i) => (
        <text key={point.fraction} x={x(i)} y={HEIGHT - BOTTOM + 16} textAnchor="middle">
          {Number((100 * point.fraction).toPrecision(2))}%
        </text>
      ))}
      <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 6} textAnchor="middle">
        of the features, the most influential first
      </text>
      {(["keep", "ablate"] as const).map((name) => (
        <g key={name}>
          <polyline data-curve={name} points={points.map((point, i) => `${x(i)},${y(point[name])}`).join(" ")} />
          {points.map((point, i) => (
            <circle key={i} data-curve={name} cx={x(i)} cy={y(point[name])} r={3}>
              <title>{`${point.features} features ${name === "keep" ? "kept alone" : "ablated"}: ${decimal(point[name])}`}</title>
            </circle>
          ))}
          {last && (
            <text data-curve={name} x={WIDTH - RIGHT + 10} y={y(last[name]) + 4}>
              {name === "keep" ? "these kept alone" : "these ablated"}
            </text>
          )}
        </g>
      ))}
    </svg>
  );
}

function words(whole: number, empty: number, points: readonly CurvePoint[]): string {
  const half = points.find((point) => (point.keep - empty) / (whole - empty) >= 0.5);
  const reach = half ? `; half of the way is reached by ${percent(half.fraction)} of them` : "";
  return `The target is ${decimal(whole)} in the whole model and ${decimal(empty)} without features${reach}`;
}
