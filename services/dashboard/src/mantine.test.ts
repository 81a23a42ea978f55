import { expect, test } from "vitest";

import imported from "./mantine.ts?raw";

type Sources = Record<string, string>;
const ours: Sources = import.meta.glob("./**/*.tsx", { query: "?raw", import: "default", eager: true });
const theirs: Sources = import.meta.glob("/node_modules/@mantine/core/esm/components/*/*.mjs", {
  query: "?raw",
  import: "default",
  eager: true,
  exhaustive: true,
});
const styles = import.meta.glob("/node_modules/@mantine/core/styles/*.css", { exhaustive: true });

const component = (name: string) => `/node_modules/@mantine/core/esm/components/${name}/${name}.mjs`;

test("every component of Mantine's that is used, or used by one that is, has its styles", () => {
  const used = Object.values(ours).flatMap((source) =>
    [...source.matchAll(/import \{([^}]*)\} from "@mantine\/core"/g)].flatMap(([, names]) => (names ?? "").match(/\b[A-Z]\w+/g) ?? []),
  );
  const found = new Set<string>();
  const add = (name: string) => {
    const source = theirs[component(name)];
    if (found.has(name) || source === undefined) return;
    found.add(name);
    for (const [, other] of source.matchAll(/from "\.\.\/(\w+)\/\1\.mjs"/g)) add(other ?? "");
  };
  used.forEach(add);
  expect(found).toContain("Input"); // TextInput and others are made of it
  const styled = [...found].filter((name) => `/node_modules/@mantine/core/styles/${name}.css` in styles);
  expect(styled.filter((name) => !imported.includes(`"@mantine/core/styles/${name}.css"`))).toEqual([]);
});
