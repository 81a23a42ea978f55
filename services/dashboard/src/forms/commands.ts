/** A request as one would write it on the command line, in Python, or with curl. Pure. */
import { isValues, textOfNumbers, type Values } from "./values";

export interface Asked {
  spec: Values;
  /** priority, max_retries, ...: those that differ from their defaults. */
  options: Values;
}

export const LANGUAGES = ["CLI", "Python", "curl"] as const;
export type Language = (typeof LANGUAGES)[number];

export function command(language: Language, asked: Asked): string {
  switch (language) {
    case "CLI":
      return cli(asked);
    case "Python":
      return python(asked);
    case "curl":
      return curl(asked);
  }
}

/** `clew submit KIND` and its flags; lists of objects have none, so such a spec is given as a file. */
function cli({ spec, options }: Asked): string {
  const { kind, ...fields } = spec;
  const flags = [...flagsOf(fields, ""), ...flagsOf(options, "")];
  if (flags.includes(null)) return `clew submit - <<'JSON'\n${JSON.stringify({ spec, ...options }, null, 2)}\nJSON`;
  const line = [`clew submit ${String(kind)}`, ...flags].join(" ");
  return line.length <= 100 ? line : [`clew submit ${String(kind)}`, ...flags].join(" \\\n  ");
}

function flagsOf(values: Values, above: string): (string | null)[] {
  return Object.entries(values).flatMap(([name, value]) => {
    const path = `${above}${name.replaceAll("_", "-")}`;
    if (value === null || value === undefined) return [];
    if (isValues(value)) return flagsOf(value, `${path}.`);
    if (typeof value === "boolean") return [value ? `--${path}` : `--no-${path}`];
    if (!Array.isArray(value)) return [`--${path} ${word(value)}`];
    const items: unknown[] = value;
    if (items.length === 0) return [];
    if (items.some((item) => typeof item === "object")) return [null];
    if (items.every((item) => typeof item === "number")) return [`--${path} ${textOfNumbers(items)}`];
    return items.map((item) => `--${path} ${word(item)}`);
  });
}

function word(value: unknown): string {
  return quoted(typeof value === "string" ? value : JSON.stringify(value));
}

/** A word of a POSIX shell. */
function quoted(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./][A-Za-z0-9_@%+=:,./-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function python({ spec, options }: Asked): string {
  const extra = Object.entries(options).map(([name, value]) => `, ${name}=${literal(value, 0)}`);
  return `from clew_client import Lab\n\njob = Lab().submit(${literal(spec, 0)}${extra.join("")})\njob.wait(check=True)`;
}

/** A value as Python writes it. JSON's escapes of strings are Python's too. */
function literal(value: unknown, depth: number): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map((item: unknown) => literal(item, depth + 1)).join(", ")}]`;
  if (!isValues(value)) return JSON.stringify(value);
  const pad = "    ".repeat(depth + 1);
  const lines = Object.entries(value).map(([name, item]) => `${pad}${JSON.stringify(name)}: ${literal(item, depth + 1)},\n`);
  return lines.length === 0 ? "{}" : `{\n${lines.join("")}${"    ".repeat(depth)}}`;
}

function curl({ spec, options }: Asked): string {
  const body = JSON.stringify({ spec, ...options }).replaceAll("'", "'\\''");
  return [
    'curl -X POST "$CLEW_URL/api/v1/jobs" \\',
    '  -H "Authorization: Bearer $CLEW_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d '${body}'`,
  ].join("\n");
}
