import type { LogLine } from "../../live/feed";

export const LEVELS = ["debug", "info", "warning", "error"] as const;
export type Level = (typeof LEVELS)[number];

const RANK: Record<LogLine["level"], number> = { debug: 0, info: 1, event: 1, warning: 2, error: 3 };

/** Lines of a level or above whose message has the text in it, capitals or not. */
export function chosen(lines: readonly LogLine[], level: Level, text: string): readonly LogLine[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === "" && level === "debug") return lines;
  return lines.filter((line) => RANK[line.level] >= RANK[level] && line.message.toLowerCase().includes(wanted));
}

/** The message in parts, every second one a place where the text was found. */
export function marked(message: string, text: string): string[] {
  const wanted = text.trim().toLowerCase();
  const lower = message.toLowerCase();
  if (wanted === "" || lower.length !== message.length) return [message];
  const parts: string[] = [];
  let at = 0;
  for (let hit = lower.indexOf(wanted); hit >= 0; hit = lower.indexOf(wanted, at)) {
    parts.push(message.slice(at, hit), message.slice(hit, hit + wanted.length));
    at = hit + wanted.length;
  }
  return [...parts, message.slice(at)];
}

/** The lines as a file has them. */
export function asText(lines: readonly LogLine[]): string {
  return lines.map((line) => `${line.at} ${line.level} ${line.message}\n`).join("");
}
