import { describe, expect, test } from "vitest";

import text from "../../openapi.json?raw";
import { JOB_KINDS } from "../api/types";
import { requestShape, specShapes, type ApiDocument, type Field, type Shape } from "./schema";
import { equal, faults, filled, isValues, memberOf, numbersOf, pointers, range, textOfNumbers, told, type Values } from "./values";

const document = JSON.parse(text) as ApiDocument;
const specs = specShapes(document);

function field(shape: Shape | undefined, name: string): Field {
  const found = shape?.kind === "object" ? shape.fields.find((each) => each.name === name) : undefined;
  if (!found) throw new Error(`no field ${name}`);
  return found;
}

test("every kind of job has a form, in which every field has its own input", () => {
  expect(Object.keys(specs).sort()).toEqual([...JOB_KINDS].sort());
  const unknown: string[] = [];
  const walk = (shape: Shape, at: string) => {
    if (shape.kind === "json") unknown.push(at);
    if (shape.kind === "object") for (const each of shape.fields) walk(each.shape, `${at}/${each.name}`);
    if (shape.kind === "union") for (const [name, member] of Object.entries(shape.members)) walk(member, `${at}<${name}>`);
    if (shape.kind === "list") walk(shape.item, `${at}/*`);
  };
  walk(requestShape(document), "");
  expect(unknown).toEqual([]);
});

describe.each(Object.entries(specs))("%s", (kind, shape) => {
  const empty = filled(shape, {});

  test("begins with its kind and its defaults", () => {
    expect(empty.kind).toBe(kind);
    for (const each of shape.fields) if (each.default !== undefined) expect(empty[each.name]).toEqual(each.default);
  });

  test("an empty form lacks what is required and nothing else", () => {
    const lacking = [...faults(shape, empty).keys()];
    const required = shape.fields.filter((each) => each.required && each.shape.kind !== "constant");
    expect(lacking.sort()).toEqual(required.map((each) => `/${each.name}`).sort());
  });

  test("every fault is at a place that the form shows", () => {
    const shown = pointers(shape, empty);
    for (const pointer of faults(shape, empty).keys()) expect(shown).toContain(pointer);
  });

  test("what is told of a spec says it all", () => {
    const full: Values = { ...empty, name: "first", model: "smollm2", dataset: "pydoc" };
    const known = Object.fromEntries(Object.entries(full).filter(([name]) => shape.fields.some((each) => each.name === name)));
    const short = told(shape, known);
    expect(equal(filled(shape, short), known)).toBe(true);
    const needed = shape.fields.filter((each) => each.required || each.shape.kind === "constant").map((each) => each.name);
    expect([...needed, "name", "model", "dataset"]).toEqual(expect.arrayContaining(Object.keys(short)));
  });
});

test("a union, an object inside it and what may be null are told apart", () => {
  const coder = field(specs.train, "coder").shape;
  const activation = field(coder, "activation");
  expect(activation.shape.kind === "union" && Object.keys(activation.shape.members).sort()).toEqual(["batchtopk", "jumprelu", "relu", "topk"]);
  expect(memberOf(activation.shape, { kind: "jumprelu" })?.fields.map((each) => each.name)).toEqual(["kind", "threshold", "bandwidth"]);
  expect(field(field(coder, "loss").shape, "auxk")).toMatchObject({ nullable: true, required: false, shape: { kind: "object" } });
  expect(field(specs.train, "layers").shape).toMatchObject({ kind: "list", item: { kind: "number", integer: true }, minItems: 1 });
  expect(field(specs.train, "dtype").shape).toEqual({ kind: "choice", options: ["float32", "bfloat16"] });
  expect(field(specs.steer, "prompt")).toMatchObject({ nullable: true, shape: { kind: "text", maxLength: 20_000 } });
});

test("what is wrong is told where it is", () => {
  const train = specs.train;
  if (!train) throw new Error("no train");
  const good: Values = { ...filled(train, {}), name: "first", model: "m", dataset: "d", layers: [0, 1], steps: 10 };
  expect(faults(train, good).size).toBe(0);
  const broken = (change: Values) => Object.fromEntries(faults(train, { ...good, ...change }));
  expect(broken({ name: "No" })).toEqual({ "/name": "This is not of the form it must have." });
  expect(broken({ steps: 0.5 })).toEqual({ "/steps": "A whole number is needed." });
  expect(broken({ steps: 0 })).toEqual({ "/steps": "It must be from 1 to 10000000." });
  expect(broken({ steps: "ten" })).toEqual({ "/steps": "This is not a number." });
  expect(broken({ layers: [] })).toEqual({ "/layers": "Give at least one." });
  expect(broken({ layers: "0-x" })).toEqual({ "/layers": "Numbers such as 0-9,12." });
  const coder = good.coder as Values;
  expect(broken({ coder: { ...coder, activation: { kind: "topk", k: 0 } } })).toEqual({ "/coder/activation/k": expect.any(String) as string });
  expect(broken({ coders: [{ ...coder, name: "" }] })).toEqual({ "/coders/0/name": "This is needed." });
});

test("numbers are written in runs and read back", () => {
  for (const numbers of [[], [3], [0, 1, 2, 5, 7, 8], [9, 8, 7], [0.5, 1.5]]) {
    expect(numbersOf(textOfNumbers(numbers), numbers.every(Number.isInteger))).toEqual(numbers);
  }
  expect(textOfNumbers([0, 1, 2, 3, 8, 9])).toBe("0-3,8,9");
  for (const wrong of ["a", "3-1", "0-9999999", "1.5"]) expect(numbersOf(wrong, true)).toBeNull();
});

test.each([
  [{ minimum: 1 }, "at least 1"],
  [{ minimum: 1, maximum: 10 }, "from 1 to 10"],
  [{ above: 0, below: 1 }, "above 0 and below 1"],
  [{ above: 0, maximum: 1 }, "above 0 to 1"],
  [{ maximum: 3 }, "at most 3"],
  [{ below: 3 }, "below 3"],
  [{}, ""],
])("the bounds %j are %s", (bounds, words) => expect(range(bounds)).toBe(words));

test("equal looks through orders of keys, not of items", () => {
  expect(equal({ a: [1, { b: null }], c: 2 }, { c: 2, a: [1, { b: null }] })).toBe(true);
  expect(equal({ a: [1, 2] }, { a: [2, 1] })).toBe(false);
  expect(equal({ a: undefined }, { b: undefined })).toBe(false);
  expect(isValues([])).toBe(false);
});
