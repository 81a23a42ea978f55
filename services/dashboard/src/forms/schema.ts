/** From the JSON schemas of the API's own document to the fields of a form. Pure. */

/** As much of JSON Schema as pydantic writes for specs. */
export interface JsonSchema {
  $ref?: string;
  type?: string;
  const?: unknown;
  enum?: unknown[];
  default?: unknown;
  description?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  discriminator?: { propertyName: string; mapping?: Record<string, string> };
  additionalProperties?: boolean | JsonSchema;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: string;
  format?: string;
}

export interface ApiDocument {
  components: { schemas: Record<string, JsonSchema> };
}

export interface Bounds {
  minimum?: number;
  maximum?: number;
  /** Bounds that are themselves not allowed. */
  above?: number;
  below?: number;
}

export type Shape =
  | { kind: "text"; pattern?: string; minLength?: number; maxLength?: number; format?: string }
  | ({ kind: "number"; integer: boolean } & Bounds)
  | { kind: "boolean" }
  | { kind: "choice"; options: string[] }
  | { kind: "constant"; value: unknown }
  | { kind: "object"; about: string; fields: Field[] }
  | { kind: "union"; by: string; members: Record<string, Shape & { kind: "object" }> }
  | { kind: "list"; item: Shape; minItems?: number; maxItems?: number }
  /** What no field is made for: written as JSON. */
  | { kind: "json" };

export interface Field {
  name: string;
  help: string;
  required: boolean;
  /** Whether null is a value of it. */
  nullable: boolean;
  default: unknown;
  shape: Shape;
}

const PREFIX = "#/components/schemas/";
/** Schemas may contain themselves; a form may not. */
const DEEPEST = 8;

export function shapeOf(schema: JsonSchema, document: ApiDocument, depth = 0): Shape {
  const at = resolve(schema, document);
  if (depth > DEEPEST) return { kind: "json" };
  if ("const" in at) return { kind: "constant", value: at.const };
  if (at.enum) return { kind: "choice", options: at.enum.filter((value) => typeof value === "string") };
  if (at.discriminator) return unionOf(at, at.discriminator, document, depth);
  switch (at.type) {
    case "string":
      return { kind: "text", pattern: at.pattern, minLength: at.minLength, maxLength: at.maxLength, format: at.format };
    case "integer":
    case "number":
      return {
        kind: "number",
        integer: at.type === "integer",
        minimum: at.minimum,
        maximum: at.maximum,
        above: at.exclusiveMinimum,
        below: at.exclusiveMaximum,
      };
    case "boolean":
      return { kind: "boolean" };
    case "array":
      return at.items
        ? { kind: "list", item: shapeOf(at.items, document, depth + 1), minItems: at.minItems, maxItems: at.maxItems }
        : { kind: "json" };
    case "object":
      return at.properties ? objectOf(at, document, depth) : { kind: "json" };
    default:
      return { kind: "json" };
  }
}

/** The kinds of job and the form of each. */
export function specShapes(document: ApiDocument): Record<string, Shape & { kind: "object" }> {
  const request = requestShape(document);
  const spec = request.fields.find((field) => field.name === "spec");
  if (spec?.shape.kind !== "union") throw new Error("the API's document does not tell the kinds of jobs apart");
  return spec.shape.members;
}

/** The form of a whole request. */
export function requestShape(document: ApiDocument): Shape & { kind: "object" } {
  const request = document.components.schemas.JobRequest;
  const shape = request && shapeOf(request, document);
  if (shape?.kind !== "object") throw new Error("the API's document has no JobRequest");
  return shape;
}

function resolve(schema: JsonSchema, document: ApiDocument): JsonSchema {
  if (!schema.$ref) return schema;
  const target = document.components.schemas[schema.$ref.replace(PREFIX, "")];
  if (!target) throw new Error(`the API's document has no ${schema.$ref}`);
  return resolve(target, document);
}

function objectOf(schema: JsonSchema, document: ApiDocument, depth: number): Shape & { kind: "object" } {
  const required = new Set(schema.required);
  return {
    kind: "object",
    about: schema.description ?? "",
    fields: Object.entries(schema.properties ?? {}).map(([name, property]) =>
      fieldOf(name, property, required.has(name), document, depth + 1),
    ),
  };
}

function fieldOf(name: string, property: JsonSchema, required: boolean, document: ApiDocument, depth: number): Field {
  const choices = property.anyOf ?? [];
  const values = choices.filter((choice) => choice.type !== "null");
  const [only] = values;
  const inner = only && values.length === 1 ? only : property;
  return {
    name,
    help: property.description ?? inner.description ?? "",
    required,
    nullable: values.length < choices.length,
    default: property.default,
    shape: shapeOf(inner, document, depth),
  };
}

function unionOf(schema: JsonSchema, by: NonNullable<JsonSchema["discriminator"]>, document: ApiDocument, depth: number): Shape {
  const members: Record<string, Shape & { kind: "object" }> = {};
  for (const [value, ref] of Object.entries(by.mapping ?? {})) {
    const member = shapeOf({ $ref: ref }, document, depth + 1);
    if (member.kind === "object") members[value] = member;
  }
  return schema.oneOf && Object.keys(members).length > 0 ? { kind: "union", by: by.propertyName, members } : { kind: "json" };
}
