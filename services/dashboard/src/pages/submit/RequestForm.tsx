import { Button } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";

import { api, unwrap } from "../../api/client";
import { pageOf, submitJob } from "../../api/jobs";
import { problemOf } from "../../api/problem";
import { jobQuery } from "../../api/queries";
import type { JobRequest } from "../../api/types";
import { Card } from "../../components/Card";
import { ProblemBox } from "../../components/States";
import { Fields } from "../../forms/FieldInput";
import { FormContext, type FormState } from "../../forms/FormContext";
import { placed } from "../../forms/problems";
import { requestShape, type ApiDocument, type Shape } from "../../forms/schema";
import { faults, filled, pointers, type Values } from "../../forms/values";
import { EstimateCard } from "./EstimateCard";
import classes from "./submit.module.css";
import { useSuggestions } from "./useSuggestions";
import { WrittenAs } from "./WrittenAs";

interface Props {
  document: ApiDocument;
  shape: Shape & { kind: "object" };
  /** What a request may have said already: its spec, priority, ... */
  given: Values;
}

const PAUSE_MS = 400;

/** The fields of a request, what it would take, and what is wrong with it where it is wrong. */
export function RequestForm({ document, shape, given }: Props) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const options = useMemo(() => optionsOf(document), [document]);
  const [spec, setSpec] = useState<Values>(() => filled(shape, given.spec as Values));
  const [asked, setAsked] = useState<Values>(() => filled(options, given));
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const [pressed, setPressed] = useState(false);
  const suggestions = useSuggestions();

  const request = useMemo(() => ({ spec, ...asked }), [spec, asked]);
  const wrong = useMemo(() => new Map([...faults(shape, spec, "/spec"), ...faults(options, asked)]), [shape, spec, options, asked]);
  const shown = useMemo(() => new Set([...pointers(shape, spec, "/spec"), ...pointers(options, asked)]), [shape, spec, options, asked]);

  const [settled] = useDebouncedValue(request, PAUSE_MS);
  const estimate = useQuery({
    queryKey: ["estimate", settled],
    // Checked by `faults` and again by the lab; no type could say it.
    queryFn: ({ signal }) => unwrap(api.POST("/api/v1/estimates", { body: settled as unknown as JobRequest, signal })),
    enabled: wrong.size === 0 && settled === request,
    retry: false,
  });
  const submit = useMutation({
    mutationFn: (body: Values) => submitJob(body as unknown as JobRequest),
    onSuccess: (submitted) => {
      client.setQueryData(jobQuery(submitted.job.id).queryKey, submitted.job);
      void navigate(pageOf(submitted));
    },
  });
  // What was refused says nothing of what has been written since.
  const refused = submit.isError && submit.variables === request ? submit.error : estimate.error;
  const answer = useMemo(() => (refused ? placed(problemOf(refused), (pointer) => shown.has(pointer)) : null), [refused, shown]);

  const form: FormState = {
    errorAt: (pointer) => (pressed || touched.has(pointer) ? wrong.get(pointer) : undefined) ?? answer?.fields.get(pointer),
    errorWithin: (pointer) =>
      [...(pressed ? wrong.keys() : []), ...(answer?.fields.keys() ?? [])].some((at) => at === pointer || at.startsWith(`${pointer}/`)),
    touch: (pointer) => setTouched((before) => (before.has(pointer) ? before : new Set([...before, pointer]))),
    suggestions,
  };
  return (
    <FormContext value={form}>
      <form
        className={classes.grid}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          setPressed(true);
          if (wrong.size === 0) submit.mutate(request);
          else focus([...wrong.keys()], event.currentTarget);
        }}
      >
        <Card>
          <Fields fields={shape.fields} at="/spec" value={spec} onChange={setSpec} />
        </Card>
        <div className={classes.side}>
          <EstimateCard estimate={estimate.data} asking={estimate.isFetching} lacking={wrong.size} />
          {answer?.rest && <ProblemBox problem={answer.rest} />}
          <Card title="Request">
            <Fields fields={options.fields} at="" value={asked} onChange={setAsked} />
            {pressed && wrong.size > 0 && (
              <p className={classes.tight} role="alert">
                {wrong.size === 1 ? "One field needs" : `${wrong.size} fields need`} another look.
              </p>
            )}
            <Button type="submit" mt="md" fullWidth loading={submit.isPending}>
              Submit
            </Button>
          </Card>
          <WrittenAs document={document} request={request} />
        </div>
      </form>
    </FormContext>
  );
}

/** What a request has beside its spec. */
function optionsOf(document: ApiDocument): Shape & { kind: "object" } {
  const shape = requestShape(document);
  return { ...shape, fields: shape.fields.filter((field) => field.name !== "spec") };
}

/** To the first place that is wrong, in the order of the page. */
function focus(wrong: string[], form: HTMLFormElement): void {
  const fields = [...form.querySelectorAll<HTMLElement>("[data-pointer]")];
  const first = fields.find((field) => wrong.includes(field.dataset.pointer ?? ""));
  first?.closest("details")?.setAttribute("open", "");
  first?.focus();
}
