import { NativeSelect } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { api, unwrap } from "../../api/client";
import { problemOf } from "../../api/problem";
import { membersQuery } from "../../api/queries";
import { ROLES, type MemberRequest, type MemberView, type Role } from "../../api/types";
import { Card } from "../../components/Card";
import { Confirm } from "../../components/Confirm";
import { DataTable, type Column } from "../../components/DataTable";
import { Failed, Loading } from "../../components/States";
import { Ago } from "../../components/Time";
import { RecordForm } from "../../forms/RecordForm";
import classes from "./people.module.css";

/** Who is in the project, as what. */
export function Members({ project, manages }: { project: string; manages: boolean }) {
  const client = useQueryClient();
  const query = useQuery(membersQuery(project));
  const refetch = () => client.invalidateQueries({ queryKey: membersQuery(project).queryKey });
  const change = useMutation({
    mutationFn: ({ user, role }: { user: string; role: Role }) =>
      unwrap(api.PATCH("/api/v1/projects/{project_id}/members/{user_id}", { params: { path: { project_id: project, user_id: user } }, body: { role } })),
    onSettled: refetch,
  });
  const remove = useMutation({
    mutationFn: (user: string) =>
      unwrap(api.DELETE("/api/v1/projects/{project_id}/members/{user_id}", { params: { path: { project_id: project, user_id: user } } })),
    onSettled: refetch,
  });
  if (query.isPending) return <Loading rows={3} />;
  if (!query.data) return <Failed error={query.error} retry={() => void query.refetch()} />;
  const error = change.error ?? remove.error;
  const columns: Column<MemberView>[] = [
    { title: "Name", cell: (member) => <span className={member.disabled ? classes.gone : undefined}>{member.display_name}</span> },
    { title: "Signs in as", cell: (member) => <span className="mono">{member.name}</span> },
    {
      title: "Role",
      cell: (member) =>
        manages ? (
          <NativeSelect
            size="xs"
            w={130}
            aria-label={`Role of ${member.display_name}`}
            data={[...ROLES]}
            value={member.role}
            onChange={(event) => {
              const role = ROLES.find((each) => each === event.currentTarget.value);
              if (role) change.mutate({ user: member.user_id, role });
            }}
          />
        ) : (
          member.role
        ),
    },
    { title: "Since", align: "right", cell: (member) => <Ago at={member.since} /> },
  ];
  if (manages) {
    columns.push({
      title: "Change",
      align: "right",
      cell: (member) => (
        <Confirm action="Remove" about={member.display_name} onConfirm={() => remove.mutate(member.user_id)}>
          {member.display_name} sees nothing of the project from now on. What they made stays.
        </Confirm>
      ),
    });
  }
  return (
    <Card title="Members" flush>
      {error && (
        <p className={classes.wrong} role="alert">
          {problemOf(error).detail}
        </p>
      )}
      <DataTable label="Members" columns={columns} rows={query.data} rowKey={(member) => member.user_id} />
      {manages && (
        <details className={classes.add}>
          <summary>Add a member</summary>
          <RecordForm
            schema="MemberRequest"
            action="Add member"
            send={(body) => unwrap(api.POST("/api/v1/projects/{project_id}/members", { params: { path: { project_id: project } }, body: body as unknown as MemberRequest }))}
            onDone={() => void refetch()}
          />
        </details>
      )}
    </Card>
  );
}
