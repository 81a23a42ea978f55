/** Deep layers and late runs blue, shallow and early ones warm, evenly spaced and equally light. */
export function hue(i: number, n: number, dark: boolean, alpha = 1): string {
  const at = n <= 1 ? 1 : i / (n - 1);
  return `oklch(${dark ? 0.76 : 0.58} 0.14 ${30 + 235 * at} / ${alpha})`;
}
