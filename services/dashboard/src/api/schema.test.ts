import openapiTS, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { expect, test } from "vitest";

import document from "../../openapi.json?raw";
import types from "./schema.d.ts?raw";

test("the types are those of openapi.json; `npm run types` makes them so", async () => {
  const made = astToString(await openapiTS(document, { alphabetize: true, defaultNonNullable: false }));
  expect(types).toBe(COMMENT_HEADER + made);
});
