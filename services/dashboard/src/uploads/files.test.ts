import { expect, test } from "vitest";

import { sourceKind } from "../pages/uploads/sources";
import { nameOf, ofInput, sizeOf } from "./files";

function file(path: string, size = 1): File {
  const made = new File([new Uint8Array(size)], path.split("/").at(-1) ?? "");
  // As an input for folders sets it; it is empty for files alone.
  Object.defineProperty(made, "webkitRelativePath", { value: path.includes("/") ? path : "" });
  return made;
}

test("a folder's files are named from it on, without what is hidden in it", () => {
  const { title, files } = ofInput(["tiny/model.safetensors", "tiny/.git/config", "tiny/sub/b.txt", "tiny/.DS_Store", "tiny/sub/a.txt"].map((path) => file(path, 2)));
  expect(title).toBe("tiny");
  expect(files.map(({ name }) => name)).toEqual(["model.safetensors", "sub/a.txt", "sub/b.txt"]);
  expect(sizeOf(files)).toBe(6);
});

test("names are made as the command line makes them", () => {
  const made = ["Notes 2026.jsonl.gz", "a.txt", ".hidden", "Ünïcode Ørd.TXT", "__", "x".repeat(99), "model-7b"].map(nameOf);
  expect(made).toEqual(["notes-2026", "a", "hidden", "n-code-rd", "upload", "x".repeat(63), "model-7b"]);
  for (const name of made) expect(name).toMatch(/^[a-z0-9][a-z0-9._-]{0,62}$/);
});

test("the kind of a dataset's source is told by the first name that tells", () => {
  expect(sourceKind(["README", "a.jsonl.zst", "b.txt"])).toBe("jsonl");
  expect(sourceKind(["x/part-0.parquet"])).toBe("parquet");
  expect(sourceKind(["notes"])).toBe("text");
});
