/** The ground of a number in a heat map: the stronger, the farther it is from 0 towards the largest. */
export function shade(value: number, largest: number): string {
  const share = largest > 0 ? Math.min(1, Math.abs(value) / largest) : 0;
  return `color-mix(in srgb, var(${value < 0 ? "--negative" : "--positive"}) ${Math.round(45 * share)}%, transparent)`;
}
