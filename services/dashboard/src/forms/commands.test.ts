import { expect, test } from "vitest";

import { command } from "./commands";
import { placed } from "./problems";

const train = {
  spec: { kind: "train", name: "it's", model: "m", layers: [0, 1, 2, 9], steps: 5, coder: { activation: { kind: "topk", k: 8 } }, optimizer: { betas: [0.5, 0.75] } },
  options: { priority: "high", reuse: false },
};

test("the command line has flags, quoted where a shell would read more into them", () => {
  expect(command("CLI", train).replaceAll(" \\\n ", "")).toBe(
    "clew submit train --name 'it'\\''s' --model m --layers 0-2,9 --steps 5 --coder.activation.kind topk --coder.activation.k 8" +
      " --optimizer.betas 0.5,0.75 --priority high --no-reuse",
  );
});

test("a list of objects has no flags, so the command line reads a file", () => {
  const steer = { spec: { kind: "steer", graph: "g", edits: [{ layer: 1, operation: "ablate" }] }, options: {} };
  const text = command("CLI", steer);
  expect(text.startsWith("clew submit - <<'JSON'\n")).toBe(true);
  expect(JSON.parse(text.split("\n").slice(1, -1).join("\n"))).toEqual({ spec: steer.spec });
});

test("Python has its own names for true, false and null, and curl a body that is JSON", () => {
  const asked = { spec: { kind: "steer", prompt: 'a "b"\n', frozen: true, coders: null, edits: [{}] }, options: { max_retries: 2 } };
  expect(command("Python", asked)).toContain('"prompt": "a \\"b\\"\\n",\n    "frozen": True,\n    "coders": None,\n    "edits": [{}],\n}, max_retries=2)');
  const body = /-d '(.*)'$/s.exec(command("curl", train))?.[1] ?? "";
  expect(JSON.parse(body.replaceAll("'\\''", "'"))).toEqual({ spec: train.spec, ...train.options });
});

test("errors go to the field they point to, else to the one around it; the rest is told apart", () => {
  const known = (pointer: string) => ["/spec/name", "/spec/coder", "/spec/coder/activation"].includes(pointer);
  const problem = (detail: string, where: string | null) => ({ type: "t", title: "T", status: 422, detail, where });
  const answer = {
    ...problem("three things", null),
    errors: [problem("too long", "/spec/name"), problem("no such k", "/spec/coder/activation/k"), problem("give one", "/spec")],
  };
  const { fields, rest } = placed(answer, known);
  expect([...fields]).toEqual([["/spec/name", "Too long."], ["/spec/coder/activation", "No such k."]]);
  expect(rest).toMatchObject({ detail: "give one", errors: [{ detail: "give one" }] });
  expect(placed({ ...problem("taken", "/spec/name"), hint: "Choose another." }, known)).toEqual({
    fields: new Map([["/spec/name", "Taken. Choose another."]]),
    rest: null,
  });
  expect(placed(problem("away", null), known).rest?.detail).toBe("away");
});
