import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { coderQuery, recordQueries } from "../../api/queries";
import type { JobView } from "../../api/types";
import { Card, Facts } from "../../components/Card";

/** What the job was given, each with the job that made it. */
export function Lineage({ job }: { job: JobView }) {
  const { model, dataset, coders, graph } = job.inputs;
  const rows: [string, ReactNode][] = [];
  if (model?.[0]) rows.push(["model", <Model key="model" id={model[0]} />]);
  if (dataset?.[0]) rows.push(["dataset", <Dataset key="dataset" id={dataset[0]} />]);
  if (coders?.[0]) rows.push(["coders", <Coders key="coders" ids={coders} />]);
  if (graph?.[0]) rows.push(["graph", <Graph key="graph" id={graph[0]} />]);
  if (rows.length === 0) return null;
  return (
    <Card title="Made from">
      <Facts rows={rows} />
    </Card>
  );
}

function Model({ id }: { id: string }) {
  const { data } = useQuery(recordQueries.model(id));
  return data ? <Maker job={data.job_id}>{data.name}</Maker> : <Id id={id} />;
}

function Dataset({ id }: { id: string }) {
  const { data } = useQuery(recordQueries.dataset(id));
  return data ? <Maker job={data.job_id}>{data.name}</Maker> : <Id id={id} />;
}

function Graph({ id }: { id: string }) {
  const { data } = useQuery(recordQueries.graph(id));
  return (
    <Link to="/graphs/$id" params={{ id }}>
      {data?.name ?? <Id id={id} />}
    </Link>
  );
}

/** Coders of one set, or several. */
function Coders({ ids }: { ids: string[] }) {
  const [first = ""] = ids;
  const { data } = useQuery(coderQuery(first));
  if (!data) return <Id id={first} />;
  if (ids.length === 1) {
    return (
      <Link to="/coders/$id" params={{ id: first }}>
        {data.name} L{data.layer}
      </Link>
    );
  }
  return (
    <>
      <Maker job={data.job_id}>{data.name}</Maker>{" "}
      <Link to="/coders" search={{ job: data.job_id }} className="dim">
        {ids.length} layers
      </Link>
    </>
  );
}

function Maker({ job, children }: { job: string; children: ReactNode }) {
  return (
    <Link to="/jobs/$id" params={{ id: job }} title="Open the job that made it">
      {children}
    </Link>
  );
}

function Id({ id }: { id: string }) {
  return <span className="mono dim">{id.slice(0, 13)}</span>;
}
