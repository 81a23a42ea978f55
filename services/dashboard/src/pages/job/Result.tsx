import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { api, unwrap } from "../../api/client";
import type { JobView } from "../../api/types";
import { Card } from "../../components/Card";
import { DataTable, type Column } from "../../components/DataTable";
import { decimal, percent } from "../../format";

interface Evaluated {
  layer: number;
  fvu: number;
  l0: number;
  dead_fraction: number;
  loss_recovered: number | null;
}

/** What the job added to the lab, and where to see it. */
export function Result({ job }: { job: JobView }) {
  const result = job.result;
  if (!result) return null;
  switch (result.kind) {
    case "model":
      return <Made title="Imported a model" link={<Button variant="light" size="xs" renderRoot={(p) => <Link to="/models" {...p} />}>All models</Button>} />;
    case "dataset":
      return <Made title="Built a dataset" link={<Button variant="light" size="xs" renderRoot={(p) => <Link to="/datasets" {...p} />}>All datasets</Button>} />;
    case "coders":
      return (
        <Made
          title={job.kind === "import-coders" ? "Imported coders" : "Trained coders"}
          link={<Button variant="light" size="xs" renderRoot={(p) => <Link to="/coders" search={{ job: job.id }} {...p} />}>Open the coders</Button>}
        />
      );
    case "evaluation":
      return <Evaluation rows={result.coders as Evaluated[]} />;
    case "graph":
      return <GraphLink job={job} />;
    default:
      return null;
  }
}

function Made({ title, link }: { title: string; link: React.ReactNode }) {
  return <Card title={title}>{link}</Card>;
}

function GraphLink({ job }: { job: JobView }) {
  const { data } = useQuery({
    queryKey: ["job", job.id, "graph"],
    queryFn: ({ signal }) => unwrap(api.GET("/api/v1/graphs", { params: { query: { job: job.id } }, signal })),
  });
  const graph = data?.items[0];
  if (!graph) return null;
  return (
    <Made
      title="Made a graph"
      link={<Button variant="light" size="xs" renderRoot={(p) => <Link to="/graphs/$id" params={{ id: graph.id }} {...p} />}>Open the graph</Button>}
    />
  );
}

const COLUMNS: Column<Evaluated>[] = [
  { title: "Layer", align: "right", cell: (row) => row.layer },
  { title: "FVU", align: "right", cell: (row) => decimal(row.fvu) },
  { title: "L0", align: "right", cell: (row) => decimal(row.l0, 1) },
  { title: "Dead", align: "right", cell: (row) => percent(row.dead_fraction) },
  { title: "Loss recovered", align: "right", cell: (row) => percent(row.loss_recovered) },
];

function Evaluation({ rows }: { rows: Evaluated[] }) {
  return (
    <Card title="Evaluation on held-out tokens" flush>
      <DataTable label="Evaluation" columns={COLUMNS} rows={rows} rowKey={(row) => String(row.layer)} />
    </Card>
  );
}
