import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";

import { graphDocumentQuery, graphQuery } from "../api/queries";
import { PageTitle } from "../components/Card";
import { Failed, Loading } from "../components/States";
import { Ago } from "../components/Time";
import { count } from "../format";
import { GraphHeader } from "../graph/GraphHeader";
import { GraphView } from "../graph/GraphView";
import classes from "./Graph.module.css";

const route = getRouteApi("/lab/graphs/$id");

export default function Graph() {
  const { id } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const record = useQuery(graphQuery(id));
  const document = useQuery(graphDocumentQuery(id));
  if (record.isError) return <Failed error={record.error} retry={() => void record.refetch()} />;
  if (document.isError) return <Failed error={document.error} retry={() => void document.refetch()} />;
  if (!record.data || !document.data) return <Loading />;
  const { summary } = document.data;
  return (
    <div className={classes.page}>
      <div>
        <PageTitle title={record.data.name}>
          <span className="dim">
            {count(document.data.nodes.length)} of {count(summary.n_nodes)} nodes shown, the most influential
          </span>
          <span className="dim">
            made <Ago at={record.data.created_at} /> by{" "}
            <Link to="/jobs/$id" params={{ id: record.data.job_id }}>
              this job
            </Link>
          </span>
        </PageTitle>
        <GraphHeader summary={summary} />
      </div>
      <GraphView
        key={id}
        id={id}
        document={document.data}
        search={search}
        onChange={(change, how) => void navigate({ search: (now) => ({ ...now, ...change }), replace: how?.replace ?? false })}
      />
    </div>
  );
}
