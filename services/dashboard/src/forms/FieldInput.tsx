import { Button, Checkbox, NativeSelect } from "@mantine/core";
import { useEffect, useRef } from "react";

import { useForm } from "./FormContext";
import classes from "./forms.module.css";
import { Help } from "./Help";
import { label, ScalarInput } from "./ScalarInput";
import type { Field, Shape } from "./schema";
import { blank, filled, isComposed, isValues, memberOf, type Values } from "./values";

interface FieldsProps {
  fields: readonly Field[];
  at: string;
  value: Values;
  onChange: (value: Values) => void;
}

/** The fields of an object: what is needed first, then what has a default, then what is made of several fields. */
export function Fields({ fields, at, value, onChange }: FieldsProps) {
  const rank = ({ required, shape }: Field) => (isComposed(shape) || isListOfComposed(shape) ? 2 : required ? 0 : 1);
  const shown = fields.filter((field) => field.shape.kind !== "constant").sort((a, b) => rank(a) - rank(b));
  return (
    <div className={classes.fields}>
      {shown.map((field) => (
        <FieldInput
          key={field.name}
          field={field}
          at={`${at}/${field.name}`}
          value={value[field.name]}
          onChange={(next) => onChange({ ...value, [field.name]: next })}
        />
      ))}
    </div>
  );
}

interface FieldProps {
  field: Field;
  at: string;
  value: unknown;
  onChange: (value: unknown) => void;
}

function FieldInput({ field, at, value, onChange }: FieldProps) {
  const { shape } = field;
  if (!isComposed(shape) && !isListOfComposed(shape)) return <ScalarInput field={field} at={at} value={value} onChange={onChange} />;
  return <Group field={field} at={at} value={value} onChange={onChange} />;
}

/** A field that is made of others. It opens where something in it is wrong, and never closes under the reader's hands. */
function Group({ field, at, value, onChange }: FieldProps) {
  const { shape } = field;
  const form = useForm();
  const box = useRef<HTMLDetailsElement>(null);
  const wrong = form.errorWithin(at);
  useEffect(() => {
    if (box.current && (wrong || field.required)) box.current.open = true;
  }, [wrong, field.required]);
  const about = field.help || (shape.kind === "object" ? shape.about : "");
  return (
    <details ref={box} className={classes.group} data-pointer={at} data-wrong={wrong || undefined}>
      <summary>
        {label(field)} <span className="dim">{told(shape, value)}</span>
      </summary>
      <div>
        {about && (
          <p className={classes.about}>
            <Help text={about} />
          </p>
        )}
        {form.errorAt(at) && <p role="alert">{form.errorAt(at)}</p>}
        {field.nullable && (
          <Checkbox
            size="xs"
            mb="sm"
            label={`use ${label(field)}`}
            checked={value !== null && value !== undefined}
            onChange={(event) => onChange(event.currentTarget.checked ? blank(shape) : null)}
          />
        )}
        {shape.kind === "list" ? (
          <Items shape={shape} name={label(field)} at={at} value={value} onChange={onChange} />
        ) : (
          <Composed shape={shape} at={at} value={value} onChange={onChange} />
        )}
      </div>
    </details>
  );
}

interface ShapeProps<S> {
  shape: S;
  at: string;
  value: unknown;
  onChange: (value: unknown) => void;
}

/** An object, or the one of several that a field of it names. */
function Composed({ shape, at, value, onChange }: ShapeProps<Shape>) {
  const member = memberOf(shape, value);
  if (!member || !isValues(value)) return null;
  return (
    <>
      {shape.kind === "union" && (
        <NativeSelect
          size="xs"
          mb="sm"
          w={230}
          label={shape.by}
          data-pointer={`${at}/${shape.by}`}
          data={Object.keys(shape.members)}
          value={String(value[shape.by])}
          onChange={(event) => {
            const chosen = event.currentTarget.value;
            const next = shape.members[chosen];
            if (next) onChange(filled(next, { ...kept(next, value), [shape.by]: chosen }));
          }}
        />
      )}
      {shape.kind === "union" && member.about && (
        <p className={classes.about}>
          <Help text={member.about} />
        </p>
      )}
      <Fields fields={member.fields} at={at} value={value} onChange={onChange} />
    </>
  );
}

function Items({ shape, name, at, value, onChange }: ShapeProps<Shape & { kind: "list" }> & { name: string }) {
  const items: unknown[] = Array.isArray(value) ? value : [];
  return (
    <>
      {items.map((item, i) => (
        // The place is what an item is: errors point to it.
        <fieldset key={i} className={classes.item} aria-label={`${name} ${i + 1}`}>
          <legend>
            {i + 1}{" "}
            <Button variant="subtle" size="compact-xs" onClick={() => onChange(items.filter((_, j) => j !== i))} aria-label={`Remove ${name} ${i + 1}`}>
              Remove
            </Button>
          </legend>
          <Composed shape={shape.item} at={`${at}/${i}`} value={item} onChange={(next) => onChange(items.map((each, j) => (j === i ? next : each)))} />
        </fieldset>
      ))}
      <Button variant="default" size="compact-xs" disabled={items.length >= (shape.maxItems ?? Infinity)} onClick={() => onChange([...items, blank(shape.item)])}>
        Add to {name}
      </Button>
    </>
  );
}

function isListOfComposed(shape: Shape): boolean {
  return shape.kind === "list" && isComposed(shape.item);
}

/** What another member of the union has a field for too. */
function kept(member: Shape & { kind: "object" }, value: Values): Values {
  return Object.fromEntries(
    member.fields.filter((field) => field.shape.kind === "text" && typeof value[field.name] === "string").map((field) => [field.name, value[field.name]]),
  );
}

/** A closed group in a few words. */
function told(shape: Shape, value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "none" : String(value.length);
  if (!isValues(value)) return "not used";
  const kind = shape.kind === "union" ? value[shape.by] : value.kind;
  return typeof kind === "string" ? kind : "";
}
