import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { datasetsQuery } from "../api/queries";
import type { DatasetView } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import type { Column } from "../components/DataTable";
import { Digest } from "../components/Digest";
import { PagedTable } from "../components/PagedTable";
import { Empty } from "../components/States";
import { Ago } from "../components/Time";
import { Whose } from "../components/Whose";
import { count, short } from "../format";

const COLUMNS: Column<DatasetView>[] = [
  {
    title: "Name",
    cell: (dataset) => (
      <>
        <Link to="/jobs/$id" params={{ id: dataset.job_id }} data-row title="Open the job that built it">
          {dataset.name}
        </Link>
        <Whose of={dataset} />
      </>
    ),
  },
  { title: "Source", cell: (dataset) => (typeof dataset.source.kind === "string" ? dataset.source.kind : "–") },
  { title: "Training tokens", align: "right", cell: (dataset) => short(dataset.train_tokens) },
  { title: "Held-out tokens", align: "right", cell: (dataset) => short(dataset.heldout_tokens) },
  { title: "Documents", align: "right", cell: (dataset) => count(dataset.n_documents) },
  { title: "Context", align: "right", help: "Tokens in a packed row", cell: (dataset) => count(dataset.context) },
  { title: "BOS", help: "What stands first in every row", cell: (dataset) => <span className="mono">{dataset.bos}</span> },
  { title: "Tokenizer", cell: (dataset) => <Digest value={dataset.tokenizer_digest} /> },
  { title: "Digest", cell: (dataset) => <Digest value={dataset.digest} /> },
  { title: "Created", align: "right", cell: (dataset) => <Ago at={dataset.created_at} /> },
];

export default function Datasets() {
  const query = useInfiniteQuery(datasetsQuery);
  return (
    <>
      <PageTitle title="Datasets" />
      <Card flush>
        <PagedTable
          label="Datasets"
          query={query}
          columns={COLUMNS}
          empty={
            <Empty title="No datasets yet" command="clew submit build-dataset --name pydoc --model MODEL --watch">
              A dataset is text packed into rows of tokens by one model's tokenizer, so import a model first. Text of your own comes in by <Link to="/uploads">Uploads</Link>.
            </Empty>
          }
        />
      </Card>
    </>
  );
}
