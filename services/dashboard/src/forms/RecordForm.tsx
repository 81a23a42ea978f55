import { Button } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { problemOf } from "../api/problem";
import { documentQuery } from "../api/queries";
import { Loading, ProblemBox } from "../components/States";
import { Fields } from "./FieldInput";
import { FormContext, type FormState } from "./FormContext";
import { placed } from "./problems";
import { shapeOf, type ApiDocument, type Shape } from "./schema";
import { faults, filled, pointers, told, type Values } from "./values";

interface Props<T> {
  /** A schema of the API's document, such as `KeyRequest`. */
  schema: string;
  /** What the button says. */
  action: string;
  /** Fields that are not asked for here. */
  without?: readonly string[];
  /** What fields begin with, of what is changed; what stays so is not sent. */
  initial?: Values;
  suggestions?: (field: string) => readonly string[];
  send: (body: Values) => Promise<T>;
  onDone: (answer: T) => void;
}

/** A form for what an endpoint asks for, made from its schema. */
export function RecordForm<T>({ schema, ...props }: Props<T>) {
  const { data: document } = useQuery(documentQuery);
  const definition = document?.components.schemas[schema];
  if (!document || !definition) return <Loading rows={2} />;
  return <Form {...props} definition={shapeOf(definition, document)} document={document} />;
}

interface FormProps<T> extends Omit<Props<T>, "schema"> {
  definition: Shape;
  document: ApiDocument;
}

function Form<T>({ definition, action, without, initial, suggestions, send, onDone }: FormProps<T>) {
  const shape = useMemo((): Shape & { kind: "object" } => {
    if (definition.kind !== "object") throw new Error("a form is of an object");
    const fields = definition.fields.filter((field) => !without?.includes(field.name));
    return { ...definition, fields: fields.map((field) => (initial && field.name in initial ? { ...field, default: initial[field.name] } : field)) };
  }, [definition, without, initial]);
  const [values, setValues] = useState<Values>(() => filled(shape, {}));
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const [pressed, setPressed] = useState(false);
  const wrong = faults(shape, values);
  const submit = useMutation({
    mutationFn: (body: Values) => send(body),
    onSuccess: (answer) => {
      setValues(filled(shape, {}));
      setTouched(new Set());
      setPressed(false);
      onDone(answer);
    },
  });
  const shown = pointers(shape, values);
  const refused = submit.isError ? placed(problemOf(submit.error), (pointer) => shown.has(pointer)) : null;
  const form: FormState = {
    errorAt: (pointer) => (pressed || touched.has(pointer) ? wrong.get(pointer) : undefined) ?? refused?.fields.get(pointer),
    errorWithin: (pointer) => [...(pressed ? wrong.keys() : [])].some((at) => at.startsWith(`${pointer}/`)),
    touch: (pointer) => setTouched((before) => new Set([...before, pointer])),
    suggestions: suggestions ?? (() => []),
  };
  return (
    <FormContext value={form}>
      <form
        aria-label={action}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          setPressed(true);
          if (wrong.size === 0) submit.mutate(told(shape, values));
        }}
      >
        <Fields fields={shape.fields} at="" value={values} onChange={setValues} />
        {refused?.rest && <ProblemBox problem={refused.rest} />}
        <Button type="submit" size="xs" mt="sm" loading={submit.isPending}>
          {action}
        </Button>
      </form>
    </FormContext>
  );
}
