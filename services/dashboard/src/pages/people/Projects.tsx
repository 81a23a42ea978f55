import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";

import { api, unwrap } from "../../api/client";
import { projectsQuery } from "../../api/queries";
import type { ProjectRequest, ProjectView } from "../../api/types";
import { Card } from "../../components/Card";
import type { Column } from "../../components/DataTable";
import { PagedTable } from "../../components/PagedTable";
import { Empty } from "../../components/States";
import { Ago } from "../../components/Time";
import { RecordForm } from "../../forms/RecordForm";
import classes from "./people.module.css";

const COLUMNS: Column<ProjectView>[] = [
  { title: "Project", cell: (project) => project.name },
  { title: "Weight", align: "right", help: "Its share of the workers against that of other projects", cell: (project) => project.weight },
  { title: "Members", align: "right", cell: (project) => project.members },
  { title: "You", cell: (project) => project.role ?? <span className="dim">not a member</span> },
  { title: "Created", align: "right", cell: (project) => <Ago at={project.created_at} /> },
];

/** Every project of the lab, to its admins. */
export function Projects() {
  const client = useQueryClient();
  const query = useInfiniteQuery(projectsQuery);
  return (
    <Card title="Projects of the lab" flush>
      <PagedTable label="Projects" query={query} columns={COLUMNS} empty={<Empty title="No projects yet">Make one, and say who is its admin.</Empty>} />
      <details className={classes.add}>
        <summary>New project</summary>
        <RecordForm
          schema="ProjectRequest"
          action="Create project"
          send={(body) => unwrap(api.POST("/api/v1/projects", { body: body as unknown as ProjectRequest }))}
          onDone={() => void client.invalidateQueries({ queryKey: projectsQuery.queryKey })}
        />
      </details>
    </Card>
  );
}
