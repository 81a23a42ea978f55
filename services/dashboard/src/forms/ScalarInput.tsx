import { Checkbox, NativeSelect, PasswordInput, Textarea, TextInput } from "@mantine/core";
import { useId, useState } from "react";

import { useForm } from "./FormContext";
import classes from "./forms.module.css";
import { Help } from "./Help";
import type { Field, Shape } from "./schema";
import { numbersOf, range, textOfNumbers } from "./values";

interface Props {
  field: Field;
  at: string;
  value: unknown;
  onChange: (value: unknown) => void;
}

/** Longer than any path: a text of several lines. */
const LINES = 5000;
const UNSAID = "";

/** One field that is not made of others. */
export function ScalarInput({ field, at, value, onChange }: Props) {
  const form = useForm();
  const list = useId();
  const { shape } = field;
  const common = {
    size: "xs",
    label: label(field),
    description: <Help text={field.help} more={bounds(shape)} />,
    error: form.errorAt(at),
    required: field.required,
    onBlur: () => form.touch(at),
    "data-pointer": at,
  } as const;
  const nothing = field.nullable ? null : undefined;
  switch (shape.kind) {
    case "boolean":
      return (
        <Checkbox
          size="xs"
          label={common.label}
          description={common.description}
          error={common.error}
          data-pointer={at}
          checked={value === true}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
      );
    case "choice": {
      const unsaid = field.nullable || typeof value !== "string";
      return (
        <NativeSelect
          {...common}
          data={[...(unsaid ? [{ value: UNSAID, label: field.nullable ? "not given" : "choose one" }] : []), ...shape.options]}
          value={typeof value === "string" ? value : UNSAID}
          onChange={(event) => onChange(event.currentTarget.value || nothing)}
        />
      );
    }
    case "text": {
      const text = typeof value === "string" ? value : "";
      const set = (next: string) => onChange(next === "" ? nothing : next);
      if ((shape.maxLength ?? 0) > LINES) {
        return <Textarea {...common} className={classes.wide} rows={3} value={text} onChange={(event) => set(event.currentTarget.value)} />;
      }
      if (shape.format === "password") {
        return <PasswordInput {...common} value={text} autoComplete="new-password" onChange={(event) => set(event.currentTarget.value)} />;
      }
      if (shape.format === "date-time") {
        return <TextInput {...common} type="datetime-local" value={localTime(text)} onChange={(event) => set(isoTime(event.currentTarget.value))} />;
      }
      const known = form.suggestions(field.name);
      return (
        <>
          <TextInput
            {...common}
            value={text}
            placeholder={field.nullable ? "not given" : undefined}
            spellCheck={false}
            autoComplete="off"
            list={known.length > 0 ? list : undefined}
            onChange={(event) => set(event.currentTarget.value)}
          />
          {known.length > 0 && (
            <datalist id={list}>
              {known.map((name) => (
                <option key={name} value={name} />
              ))}
            </datalist>
          )}
        </>
      );
    }
    case "number":
      return (
        <Typed
          {...common}
          text={typeof value === "number" || typeof value === "string" ? String(value) : ""}
          inputMode="decimal"
          placeholder={field.nullable ? "not given" : undefined}
          read={(text) => (text.trim() === "" ? nothing : Number.isFinite(Number(text)) ? Number(text) : text)}
          onValue={onChange}
        />
      );
    case "list":
      if (shape.item.kind === "choice") return <Choices {...common} options={shape.item.options} nullable={field.nullable} value={value} onValue={onChange} />;
      return shape.item.kind === "number" ? (
        <Typed
          {...common}
          text={Array.isArray(value) ? textOfNumbers(value as number[]) : typeof value === "string" ? value : ""}
          placeholder={shape.item.integer ? "0-9,12" : "0.5,1"}
          read={(text) => (text.trim() === "" && field.nullable ? null : (numbersOf(text, shape.item.kind === "number" && shape.item.integer) ?? text))}
          onValue={onChange}
        />
      ) : (
        <Lines {...common} value={value} onValue={(items) => onChange(items.length === 0 && field.nullable ? null : items)} />
      );
    default:
      return <Json {...common} value={value} onValue={onChange} />;
  }
}

type InputProps = Pick<React.ComponentProps<typeof TextInput>, "size" | "label" | "description" | "error" | "required" | "placeholder" | "inputMode"> & {
  onBlur: () => void;
};

interface TypedProps extends InputProps {
  /** The value as text, for when it changes from outside. */
  text: string;
  read: (text: string) => unknown;
  onValue: (value: unknown) => void;
}

/** Text that stands for another value; what is typed stays as it is typed while it means that value. */
function Typed({ text, read, onValue, ...props }: TypedProps) {
  const [typed, setTyped] = useState(text);
  const shown = JSON.stringify(read(typed)) === JSON.stringify(read(text)) ? typed : text;
  return (
    <TextInput
      {...props}
      value={shown}
      spellCheck={false}
      autoComplete="off"
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        onValue(read(event.currentTarget.value));
      }}
    />
  );
}

/** One text a line; spaces count. */
function Lines({ value, onValue, ...props }: Omit<InputProps, "inputMode"> & { value: unknown; onValue: (items: string[]) => void }) {
  const items: unknown[] = Array.isArray(value) ? value : [];
  const [typed, setTyped] = useState(items.join("\n"));
  const read = (text: string) => text.split("\n").filter((line) => line !== "");
  const shown = JSON.stringify(read(typed)) === JSON.stringify(items) ? typed : items.join("\n");
  return (
    <Textarea
      {...props}
      rows={Math.min(6, Math.max(2, items.length))}
      placeholder="one a line"
      spellCheck={false}
      value={shown}
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        onValue(read(event.currentTarget.value));
      }}
    />
  );
}

interface ChoicesProps extends Omit<InputProps, "inputMode" | "placeholder"> {
  options: readonly string[];
  nullable: boolean;
  value: unknown;
  onValue: (value: string[] | null) => void;
}

/** Any of several; of none chosen null is made where that is a value. */
function Choices({ label, description, error, options, nullable, value, onValue }: ChoicesProps) {
  const items: unknown[] = Array.isArray(value) ? value : [];
  return (
    <Checkbox.Group
      size="xs"
      className={classes.wide}
      label={label}
      description={description}
      error={error}
      value={items.map(String)}
      onChange={(chosen) => onValue(chosen.length === 0 && nullable ? null : options.filter((option) => chosen.includes(option)))}
    >
      <div className={classes.choices}>
        {options.map((option) => (
          <Checkbox key={option} size="xs" value={option} label={option} />
        ))}
      </div>
    </Checkbox.Group>
  );
}

/** A moment as the browser's own input has it, without its zone, and back. */
function localTime(iso: string): string {
  if (iso === "") return "";
  const at = new Date(iso);
  return new Date(at.getTime() - 60_000 * at.getTimezoneOffset()).toISOString().slice(0, 16);
}

function isoTime(local: string): string {
  return local === "" ? "" : new Date(local).toISOString();
}

function Json({ value, onValue, ...props }: Omit<InputProps, "inputMode"> & { value: unknown; onValue: (value: unknown) => void }) {
  const [typed, setTyped] = useState(value === undefined ? "" : JSON.stringify(value, null, 2));
  return (
    <Textarea
      {...props}
      className={classes.wide}
      rows={4}
      placeholder="JSON"
      spellCheck={false}
      value={typed}
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        try {
          onValue(JSON.parse(event.currentTarget.value));
        } catch {
          onValue(undefined);
        }
      }}
    />
  );
}

export function label({ name }: Pick<Field, "name">): string {
  return name.replaceAll("_", " ");
}

function bounds(shape: Shape): string {
  return shape.kind === "number" ? range(shape) : "";
}
