import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { graphsQuery } from "../api/queries";
import type { GraphView } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import type { Column } from "../components/DataTable";
import { PagedTable } from "../components/PagedTable";
import { Empty } from "../components/States";
import { Ago } from "../components/Time";
import { Whose } from "../components/Whose";
import { count, percent, token } from "../format";
import classes from "./Graphs.module.css";

const COLUMNS: Column<GraphView>[] = [
  {
    title: "Name",
    cell: (graph) => (
      <>
        <Link to="/graphs/$id" params={{ id: graph.id }} data-row>
          {graph.name}
        </Link>
        <Whose of={graph} />
      </>
    ),
  },
  {
    title: "Prompt",
    cell: (graph) => (
      <span className={classes.prompt} title={graph.summary.prompt}>
        {graph.summary.prompt}
      </span>
    ),
  },
  {
    title: "Next token",
    cell: (graph) => {
      const best = graph.summary.targets[0];
      return best && (
        <span className="nowrap">
          <span className="mono">{token(best.token)}</span> <span className="dim">{percent(best.probability, 0)}</span>
        </span>
      );
    },
  },
  { title: "Nodes", align: "right", cell: (graph) => count(graph.summary.n_nodes) },
  { title: "Edges", align: "right", cell: (graph) => count(graph.summary.n_edges) },
  { title: "Replacement", align: "right", cell: (graph) => percent(graph.summary.scores.replacement) },
  { title: "Completeness", align: "right", cell: (graph) => percent(graph.summary.scores.completeness) },
  { title: "Error share", align: "right", cell: (graph) => percent(graph.summary.scores.error_share) },
  { title: "Created", align: "right", cell: (graph) => <Ago at={graph.created_at} /> },
];

export default function Graphs() {
  const query = useInfiniteQuery(graphsQuery);
  return (
    <>
      <PageTitle title="Graphs" />
      <Card flush>
        <PagedTable
          label="Graphs"
          query={query}
          columns={COLUMNS}
          empty={
            <Empty title="No graphs yet" command="clew submit attribute.yaml --watch">
              A graph traces a prompt's likely next tokens back through features to its tokens. It needs a trained set of
              coders.
            </Empty>
          }
        />
      </Card>
    </>
  );
}
