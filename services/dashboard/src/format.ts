/** Numbers, sizes and times as people read them. Pure; a missing value is an en dash. */

export const NONE = "–";

const formats = new Map<string, Intl.NumberFormat>();

/** Making a format takes far longer than using it, and pages show thousands of numbers. */
function grouped(n: number, least: number, most: number): string {
  const key = `${least}/${most}`;
  let format = formats.get(key);
  if (!format) formats.set(key, (format = new Intl.NumberFormat("en-US", { minimumFractionDigits: least, maximumFractionDigits: most })));
  return format.format(n);
}

export function count(n: number): string {
  return grouped(n, 0, 0);
}

/** Three significant digits with k, M, G: 134515008 is `135M`. */
export function short(n: number): string {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (Math.abs(n) >= size) return `${Number((n / size).toPrecision(3))}${unit}`;
  }
  return `${Number(n.toPrecision(3))}`;
}

export function decimal(n: number | null | undefined, digits = 3): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return NONE;
  const size = Math.abs(n);
  if (size !== 0 && (size < 10 ** -digits || size >= 1e6)) return n.toExponential(1);
  return grouped(n, digits, digits);
}

export function percent(x: number | null | undefined, digits = 1): string {
  return x === null || x === undefined ? NONE : `${(100 * x).toFixed(digits)}%`;
}

export function signed(n: number): string {
  return `${n < 0 ? "−" : "+"}${Math.abs(n).toPrecision(3)}`;
}

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i += 1;
  }
  return `${i === 0 ? n : n.toFixed(n < 10 ? 1 : 0)} ${units[i] ?? ""}`;
}

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${pad(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${pad(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86_400)}d ${pad(Math.floor((s % 86_400) / 3600))}h`;
}

export function ago(iso: string, now: number): string {
  const s = (now - Date.parse(iso)) / 1000;
  if (s < 5) return "just now";
  if (s < 60) return `${Math.floor(s)}s ago`;
  if (s < 3600) return `${Math.floor(s / 60)}m ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ago`;
  return `${Math.floor(s / 86_400)}d ago`;
}

/** Seconds from start to end, or to now while there is no end; null before the start. */
export function elapsed(start: string | null, end: string | null, now: number): number | null {
  if (start === null) return null;
  return ((end === null ? now : Date.parse(end)) - Date.parse(start)) / 1000;
}

/** A token with its spaces and line ends made visible. */
export function token(text: string): string {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
}

function pad(n: number): string {
  return String(n).padStart(2, "0");
}
