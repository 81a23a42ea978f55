import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { api, unwrap } from "../../api/client";
import type { JobView } from "../../api/types";
import { Card } from "../../components/Card";

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
