import type { FrequencyHistogram } from "../api/types";
import { count } from "../format";
import { words } from "./Histogram";
import classes from "./FrequencyChart.module.css";

const [WIDTH, HEIGHT] = [640, 220];
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 10, 12, 38];

/** Features by how often they are active, with its axes: rarest left. */
export function FrequencyChart({ of }: { of: FrequencyHistogram }) {
  const most = Math.max(...of.counts, 1);
  const bar = (WIDTH - LEFT - RIGHT) / of.counts.length;
  const base = HEIGHT - BOTTOM;
  const decades = Array.from({ length: Math.floor(of.counts.length * of.width) + 1 }, (_, i) => Math.ceil(of.low) + i);
  return (
    <svg className={classes.chart} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={words(of)}>
      {[0, 0.5, 1].map((share) => (
        <g key={share}>
          <line x1={LEFT} x2={WIDTH - RIGHT} y1={base - share * (base - TOP)} y2={base - share * (base - TOP)} />
          <text x={LEFT - 8} y={base - share * (base - TOP) + 4} textAnchor="end">
            {count(Math.round(share * most))}
          </text>
        </g>
      ))}
      {of.counts.map((n, i) => {
        const height = n === 0 ? 0 : Math.max(1, (n / most) * (base - TOP));
        const from = of.low + i * of.width;
        return (
          <rect key={i} x={LEFT + i * bar} y={base - height} width={bar - 1} height={height}>
            <title>{`${count(n)} features on 10^${from} to 10^${from + of.width} of the tokens`}</title>
          </rect>
        );
      })}
      {decades.map((power) => (
        <text key={power} x={LEFT + ((power - of.low) / of.width) * bar} y={base + 16} textAnchor="middle">
          {power === 0 ? "1" : `1e${power}`}
        </text>
      ))}
      <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 6} textAnchor="middle">
        share of tokens a feature is active on
      </text>
    </svg>
  );
}
