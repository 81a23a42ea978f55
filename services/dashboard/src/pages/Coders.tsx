import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";

import { codersQuery } from "../api/queries";
import type { CoderView } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import type { Column } from "../components/DataTable";
import { Digest } from "../components/Digest";
import { Histogram } from "../components/Histogram";
import { PagedTable } from "../components/PagedTable";
import { Empty } from "../components/States";
import { Ago } from "../components/Time";
import { Whose } from "../components/Whose";
import { count, decimal, percent } from "../format";

const route = getRouteApi("/lab/coders");

const COLUMNS: Column<CoderView>[] = [
  {
    title: "Name",
    cell: (coder) => (
      <>
        <Link to="/coders/$id" params={{ id: coder.id }} data-row>
          {coder.name}
        </Link>
        <Whose of={coder} />
      </>
    ),
  },
  { title: "Layer", align: "right", cell: (coder) => coder.layer },
  { title: "F", align: "right", help: "Features", cell: (coder) => count(coder.config.n_features) },
  {
    title: "k",
    align: "right",
    help: "Features kept a token",
    cell: (coder) => ("k" in coder.config.activation ? coder.config.activation.k : "–"),
  },
  {
    title: "FVU first → last",
    align: "right",
    help: "Fraction of variance unexplained on held-out tokens, before the first training step and after the last",
    cell: (coder) => (
      <>
        <span className="dim">{decimal(coder.fvu_first)} → </span>
        {decimal(coder.fvu_last)}
      </>
    ),
  },
  { title: "L0", align: "right", help: "Mean active features a token, newest evaluation", cell: (coder) => decimal(coder.metrics?.l0, 1) },
  {
    title: "Dead",
    align: "right",
    help: "Share of features active on none of the evaluated tokens",
    cell: (coder) => percent(coder.metrics?.dead_fraction),
  },
  {
    title: "Loss recovered",
    align: "right",
    help: "(CE zeroed − CE spliced) / (CE zeroed − CE original), newest evaluation",
    cell: (coder) => percent(coder.metrics?.loss_recovered_zero),
  },
  {
    title: "KL",
    align: "right",
    help: "KL(original || spliced), nats a token, newest evaluation",
    cell: (coder) => decimal(coder.metrics?.kl),
  },
  {
    title: "Frequencies",
    help: "Features by log10 of the share of tokens they are active on, from 1e-6 to 1; the tick marks 1e-3",
    cell: (coder) => coder.metrics?.frequencies && <Histogram of={coder.metrics.frequencies} />,
  },
  { title: "Digest", cell: (coder) => <Digest value={coder.digest} /> },
  {
    title: "Made by",
    cell: (coder) => (
      <Link to="/jobs/$id" params={{ id: coder.job_id }} className="dim">
        its job
      </Link>
    ),
  },
  { title: "Created", align: "right", cell: (coder) => <Ago at={coder.created_at} /> },
];

/** Sets stay newest first; inside one, layers count upward. */
function byLayer(coders: CoderView[]): CoderView[] {
  const sets = [...new Set(coders.map((coder) => coder.job_id))];
  return [...coders].sort((a, b) => sets.indexOf(a.job_id) - sets.indexOf(b.job_id) || a.layer - b.layer);
}

export default function Coders() {
  const { job } = route.useSearch();
  const query = useInfiniteQuery(codersQuery(job));
  return (
    <>
      <PageTitle title="Coders">
        {job && (
          <span className="dim">
            of one training job ·{" "}
            <Link to="/coders">show all</Link>
          </span>
        )}
      </PageTitle>
      <Card flush>
        <PagedTable
          label="Coders"
          query={query}
          columns={COLUMNS}
          arrange={byLayer}
          empty={
            <Empty title="No coders yet" command="clew submit train.yaml --watch">
              A coder is trained for one layer on a model's activations. One training job makes a coder for each of its layers.
            </Empty>
          }
        />
      </Card>
    </>
  );
}
