import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { pageOf, submitJob } from "../../api/jobs";
import { problemOf } from "../../api/problem";
import type { CoderView, ExportFormat } from "../../api/types";
import { Card } from "../../components/Card";
import { ProblemBox } from "../../components/States";

const FORMATS: readonly ExportFormat[] = ["saelens", "sparsify", "circuit-tracer", "clew"];

/** A job that writes the coder, or its set, in another project's format. */
export function Export({ coder }: { coder: CoderView }) {
  const navigate = useNavigate();
  const [format, setFormat] = useState<ExportFormat>("saelens");
  const [whole, setWhole] = useState(true);
  const [model, setModel] = useState("");
  const submit = useMutation({
    mutationFn: () =>
      submitJob({
        spec: { kind: "export-coders", coders: whole ? coder.job_id : coder.id, format, ...(model.trim() && { model_name: model.trim() }) },
      }),
    onSuccess: (submitted) => void navigate(pageOf(submitted)),
  });
  return (
    <Card title="Export">
      <form
        style={{ display: "grid", gap: 10 }}
        onSubmit={(event) => {
          event.preventDefault();
          submit.mutate();
        }}
      >
        <NativeSelect
          size="xs"
          label="Format"
          data={[...FORMATS]}
          value={format}
          onChange={(event) => setFormat(FORMATS.find((each) => each === event.currentTarget.value) ?? "saelens")}
        />
        <NativeSelect
          size="xs"
          label="What"
          data={[{ value: "set", label: "all layers of its set" }, { value: "one", label: `layer ${coder.layer} alone` }]}
          value={whole ? "set" : "one"}
          onChange={(event) => setWhole(event.currentTarget.value === "set")}
        />
        <TextInput
          size="xs"
          label="Model's name there"
          description="What the other project loads the model by, such as a Hugging Face id."
          placeholder="unknown"
          maxLength={256}
          value={model}
          onChange={(event) => setModel(event.currentTarget.value)}
        />
        {submit.isError && <ProblemBox problem={problemOf(submit.error)} />}
        <Button type="submit" size="xs" variant="default" loading={submit.isPending}>
          Export
        </Button>
      </form>
    </Card>
  );
}
