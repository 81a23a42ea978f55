import { Button } from "@mantine/core";
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, unwrap } from "../../api/client";
import { projectsQuery } from "../../api/queries";
import type { ProjectRequest, ProjectView } from "../../api/types";
import { Card } from "../../components/Card";
import type { Column } from "../../components/DataTable";
import { PagedTable } from "../../components/PagedTable";
import { Empty } from "../../components/States";
import { Ago } from "../../components/Time";
import { bytes, NONE } from "../../format";
import { RecordForm } from "../../forms/RecordForm";
import classes from "./people.module.css";

const COLUMNS: Column<ProjectView>[] = [
  { title: "Project", cell: (project) => project.name },
  { title: "Weight", align: "right", help: "Its share of the workers against that of other projects", cell: (project) => project.weight },
  { title: "Most jobs", align: "right", help: "That workers may have of it at once", cell: (project) => project.max_in_flight ?? NONE },
  {
    title: "Most stored",
    align: "right",
    help: "Results and uploads",
    cell: (project) => (project.max_stored_bytes === null ? NONE : bytes(project.max_stored_bytes)),
  },
  { title: "Members", align: "right", cell: (project) => project.members },
  { title: "You", cell: (project) => project.role ?? <span className="dim">not a member</span> },
  { title: "Created", align: "right", cell: (project) => <Ago at={project.created_at} /> },
];

/** Every project of the lab, to its admins. */
export function Projects() {
  const client = useQueryClient();
  const query = useInfiniteQuery(projectsQuery);
  const refetch = () => client.invalidateQueries({ queryKey: projectsQuery.queryKey });
  const [changing, setChanging] = useState<ProjectView | null>(null);
  const columns: Column<ProjectView>[] = [
    ...COLUMNS,
    {
      title: "Change",
      align: "right",
      cell: (project) => (
        <Button variant="default" size="compact-sm" aria-label={`Change ${project.name}`} onClick={() => setChanging(project)}>
          Change
        </Button>
      ),
    },
  ];
  return (
    <Card title="Projects of the lab" flush>
      <PagedTable label="Projects" query={query} columns={columns} empty={<Empty title="No projects yet">Make one, and say who is its admin.</Empty>} />
      {changing && (
        <section className={classes.add} aria-label={`Weight and quotas of ${changing.name}`}>
          <RecordForm
            key={changing.id}
            schema="ProjectChange"
            action={`Save ${changing.name}`}
            initial={changing}
            send={(body) =>
              unwrap(api.PATCH("/api/v1/projects/{project_id}", { params: { path: { project_id: changing.id } }, body }))
            }
            onDone={() => {
              setChanging(null);
              void refetch();
            }}
          />
        </section>
      )}
      <details className={classes.add}>
        <summary>New project</summary>
        <RecordForm
          schema="ProjectRequest"
          action="Create project"
          send={(body) => unwrap(api.POST("/api/v1/projects", { body: body as unknown as ProjectRequest }))}
          onDone={() => void refetch()}
        />
      </details>
    </Card>
  );
}
