import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { modelsQuery } from "../api/queries";
import type { ModelView } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import type { Column } from "../components/DataTable";
import { Digest } from "../components/Digest";
import { PagedTable } from "../components/PagedTable";
import { Empty } from "../components/States";
import { Ago } from "../components/Time";
import { Whose } from "../components/Whose";
import { count, short } from "../format";

const COLUMNS: Column<ModelView>[] = [
  {
    title: "Name",
    cell: (model) => (
      <>
        <Link to="/jobs/$id" params={{ id: model.job_id }} data-row title="Open the job that imported it">
          {model.name}
        </Link>
        <Whose of={model} />
      </>
    ),
  },
  { title: "Architecture", cell: (model) => model.config.architecture },
  { title: "Parameters", align: "right", cell: (model) => short(model.config.n_parameters) },
  { title: "Layers", align: "right", cell: (model) => model.config.n_layers },
  { title: "d_model", align: "right", cell: (model) => count(model.config.d_model) },
  { title: "d_mlp", align: "right", cell: (model) => count(model.config.d_mlp) },
  { title: "Heads", align: "right", help: "query / key-value heads", cell: (model) => `${model.config.n_heads} / ${model.config.n_kv_heads}` },
  { title: "Vocabulary", align: "right", cell: (model) => count(model.config.vocab_size) },
  {
    title: "Anatomy error",
    align: "right",
    help: "Largest difference between the logits of the anatomy's own arithmetic and the model's",
    cell: (model) => {
      const worst = model.proof.max_abs_logit_difference;
      return typeof worst === "number" ? worst.toExponential(1) : "–";
    },
  },
  { title: "Digest", cell: (model) => <Digest value={model.digest} /> },
  { title: "Created", align: "right", cell: (model) => <Ago at={model.created_at} /> },
];

export default function Models() {
  const query = useInfiniteQuery(modelsQuery);
  return (
    <>
      <PageTitle title="Models" />
      <Card flush>
        <PagedTable
          label="Models"
          query={query}
          columns={COLUMNS}
          empty={
            <Empty title="No models yet" command="clew submit import-model --name NAME --path FOLDER --watch">
              Import a Hugging Face folder or a .gguf file that lies under one of the lab's import roots, or{" "}
              <Link to="/uploads">upload</Link> it.
            </Empty>
          }
        />
      </Card>
    </>
  );
}
