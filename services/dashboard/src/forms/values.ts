/** The values of a form: what it begins with, what is wrong with them, and what is left to say once defaults are known. */
import type { Bounds, Field, Shape } from "./schema";

export type Values = Record<string, unknown>;

export function isValues(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What a shape begins with: its defaults, nothing where something must be said. */
export function blank(shape: Shape): unknown {
  switch (shape.kind) {
    case "constant":
      return shape.value;
    case "object":
      return filled(shape, {});
    case "union": {
      const [first] = Object.entries(shape.members);
      return first && filled(first[1], { [shape.by]: first[0] });
    }
    case "list":
      return [];
    case "boolean":
      return false;
    case "choice":
      return shape.options[0];
    default:
      return undefined;
  }
}

/** The given values with defaults for what they leave out. */
export function filled(shape: Shape & { kind: "object" }, given: Values): Values {
  return Object.fromEntries(shape.fields.map((field) => [field.name, field.name in given ? given[field.name] : start(field)]));
}

function start(field: Field): unknown {
  if (field.default !== undefined) return field.default;
  if (field.nullable) return null;
  // A choice that must be made is not made by the form.
  return field.required && field.shape.kind === "choice" ? undefined : blank(field.shape);
}

/** What is wrong, by JSON pointer. What only the lab knows (names, memory, how fields fit together) is not found here. */
export function faults(shape: Shape, value: unknown, at = ""): Map<string, string> {
  const found = new Map<string, string>();
  collect(shape, value, at, found);
  return found;
}

function collect(shape: Shape, value: unknown, at: string, found: Map<string, string>): void {
  if (shape.kind === "object" || shape.kind === "union") {
    const member = memberOf(shape, value);
    if (!member || !isValues(value)) {
      found.set(at, "Choose one.");
      return;
    }
    for (const field of member.fields) {
      const each = value[field.name];
      if (field.nullable && (each === null || each === undefined)) continue;
      if (!field.required && each === undefined) continue;
      collect(field.shape, each, `${at}/${field.name}`, found);
    }
    return;
  }
  if (shape.kind === "list") {
    const items: unknown[] = Array.isArray(value) ? value : [];
    if (typeof value === "string" && value !== "") found.set(at, "Numbers such as 0-9,12.");
    else if (items.length < (shape.minItems ?? 0)) found.set(at, shape.minItems === 1 ? "Give at least one." : `Give at least ${shape.minItems ?? 0}.`);
    else if (items.length > (shape.maxItems ?? Infinity)) found.set(at, `Give at most ${shape.maxItems ?? 0}.`);
    else items.forEach((item, i) => collect(shape.item, item, `${at}/${i}`, found));
    return;
  }
  const fault = faultOf(shape, value);
  if (fault) found.set(at, fault);
}

/** Every place of a value that has a field, by JSON pointer. */
export function pointers(shape: Shape, value: unknown, at = ""): Set<string> {
  const found = new Set([at]);
  const add = (inner: Shape, each: unknown, place: string) => pointers(inner, each, place).forEach((pointer) => found.add(pointer));
  const member = memberOf(shape, value);
  if (member && isValues(value)) {
    for (const field of member.fields) add(field.shape, value[field.name], `${at}/${field.name}`);
  } else if (shape.kind === "list" && isComposed(shape.item) && Array.isArray(value)) {
    value.forEach((item, i) => add(shape.item, item, `${at}/${i}`));
  }
  return found;
}

/** Whether a value is made of several fields. */
export function isComposed(shape: Shape): boolean {
  return shape.kind === "object" || shape.kind === "union";
}

/** The object that a value is of: itself, or the member of the union that it names. */
export function memberOf(shape: Shape, value: unknown): (Shape & { kind: "object" }) | undefined {
  if (shape.kind === "object") return shape;
  if (shape.kind !== "union" || !isValues(value)) return undefined;
  return shape.members[String(value[shape.by])];
}

function faultOf(shape: Shape, value: unknown): string | null {
  switch (shape.kind) {
    case "text":
      if (typeof value !== "string" || value.length < (shape.minLength ?? (shape.pattern ? 1 : 0))) return "This is needed.";
      if (value.length > (shape.maxLength ?? Infinity)) return `At most ${shape.maxLength ?? 0} characters; these are ${value.length}.`;
      return shape.pattern && !matches(shape.pattern, value) ? "This is not of the form it must have." : null;
    case "number":
      if (value === undefined || value === "") return "This is needed.";
      if (typeof value !== "number" || !Number.isFinite(value)) return "This is not a number.";
      if (shape.integer && !Number.isInteger(value)) return "A whole number is needed.";
      return within(shape, value) ? null : `It must be ${range(shape)}.`;
    case "choice":
      return shape.options.includes(String(value)) ? null : "Choose one.";
    case "json":
      return value === undefined || typeof value === "string" ? "This is not JSON." : null;
    default:
      return null;
  }
}

/** Python's and JavaScript's patterns agree for what specs use; one that does not compile is left to the lab. */
function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true;
  }
}

function within({ minimum, maximum, above, below }: Bounds, x: number): boolean {
  return x >= (minimum ?? -Infinity) && x <= (maximum ?? Infinity) && x > (above ?? -Infinity) && x < (below ?? Infinity);
}

/** Bounds in words: `from 1 to 10`, `above 0`; empty where there are none. */
export function range({ minimum, maximum, above, below }: Bounds): string {
  const low = minimum !== undefined ? `from ${minimum}` : above !== undefined ? `above ${above}` : "";
  const high = maximum !== undefined ? `${low ? "to" : "at most"} ${maximum}` : below !== undefined ? `${low && "and "}below ${below}` : "";
  if (minimum !== undefined && !high) return `at least ${minimum}`;
  return [low, high].filter(Boolean).join(" ");
}

/** What differs from the defaults, and what must be said: the shortest way to ask for the same. */
export function told(shape: Shape & { kind: "object" }, value: Values): Values {
  const said: Values = {};
  for (const field of shape.fields) {
    const each = value[field.name];
    if (each === undefined) continue;
    if (field.shape.kind === "constant") {
      said[field.name] = each;
      continue;
    }
    if (!field.required && equal(each, field.default ?? null)) continue;
    said[field.name] = spoken(field.shape, each);
  }
  return said;
}

function spoken(shape: Shape, value: unknown): unknown {
  const member = memberOf(shape, value);
  if (member && isValues(value)) return told(member, value);
  if (shape.kind === "list" && Array.isArray(value)) return value.map((item: unknown) => spoken(shape.item, item));
  return value;
}

/** Whether two JSON values say the same, whatever the order of their keys. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => equal(item, b[i]));
  if (!isValues(a) || !isValues(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && equal(a[key], b[key]));
}

/** `0-9,12` as numbers, and back. Null where it is neither numbers nor ranges. */
export function numbersOf(text: string, integer: boolean): number[] | null {
  const numbers: number[] = [];
  for (const part of text.split(",").map((piece) => piece.trim())) {
    if (part === "") continue;
    const ends = integer ? /^(\d+)-(\d+)$/.exec(part) : null;
    const [first, last] = ends ? [Number(ends[1]), Number(ends[2])] : [Number(part), Number(part)];
    if (!Number.isFinite(first) || last < first || last - first > 100_000 || (integer && !Number.isInteger(first))) return null;
    if (ends) for (let n = first; n <= last; n += 1) numbers.push(n);
    else numbers.push(first);
  }
  return numbers;
}

export function textOfNumbers(numbers: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const n of numbers) {
    const run = runs.at(-1);
    if (run && Number.isInteger(n) && n >= 0 && n === run[1] + 1) run[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([first, last]) => (first === last ? String(first) : last === first + 1 ? `${first},${last}` : `${first}-${last}`)).join(",");
}
