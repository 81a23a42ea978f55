import type { FrequencyHistogram } from "../api/types";
import { count } from "../format";

const BAR = 5;
const HEIGHT = 22;

/** Features by log10 of how often they are active, rarest left; a tick marks one token in a thousand. */
export function Histogram({ of }: { of: FrequencyHistogram }) {
  const most = Math.max(...of.counts, 1);
  const width = of.counts.length * BAR;
  const tick = ((-3 - of.low) / of.width) * BAR;
  return (
    <svg width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={words(of)}>
      <title>{words(of)}</title>
      {of.counts.map((n, i) => {
        const height = n === 0 ? 0 : Math.max(1, (n / most) * (HEIGHT - 3));
        return <rect key={i} x={i * BAR} y={HEIGHT - 2 - height} width={BAR - 1} height={height} fill="var(--running)" />;
      })}
      <line x1={0} x2={width} y1={HEIGHT - 1} y2={HEIGHT - 1} stroke="var(--line)" />
      <line x1={tick} x2={tick} y1={HEIGHT - 4} y2={HEIGHT} stroke="var(--ink-2)" />
    </svg>
  );
}

/** The histogram in a sentence: where its largest bin lies. */
export function words(of: FrequencyHistogram): string {
  const largest = of.counts.indexOf(Math.max(...of.counts));
  const from = of.low + largest * of.width;
  const features = of.counts.reduce((sum, n) => sum + n, of.never);
  return (
    `Of ${count(features)} features ${count(of.never)} were never active; ` +
    `most of the others on 10^${from} to 10^${from + of.width} of the tokens`
  );
}
