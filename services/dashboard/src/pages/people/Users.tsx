import { useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";

import { api, unwrap } from "../../api/client";
import { problemOf } from "../../api/problem";
import { usersQuery } from "../../api/queries";
import type { UserRequest, UserView } from "../../api/types";
import { Card } from "../../components/Card";
import { Confirm } from "../../components/Confirm";
import type { Column } from "../../components/DataTable";
import { PagedTable } from "../../components/PagedTable";
import { Empty } from "../../components/States";
import { RecordForm } from "../../forms/RecordForm";
import classes from "./people.module.css";

/** Everyone in the lab, to its admins. */
export function Users() {
  const client = useQueryClient();
  const query = useInfiniteQuery(usersQuery);
  const refetch = () => client.invalidateQueries({ queryKey: usersQuery.queryKey });
  const change = useMutation({
    mutationFn: ({ id, disabled }: { id: string; disabled: boolean }) =>
      unwrap(api.PATCH("/api/v1/users/{user_id}", { params: { path: { user_id: id } }, body: { disabled } })),
    onSettled: refetch,
  });
  const columns: Column<UserView>[] = [
    { title: "Name", cell: (user) => <span className={user.disabled ? classes.gone : undefined}>{user.display_name}</span> },
    { title: "Signs in as", cell: (user) => <span className="mono">{user.name}</span> },
    { title: "By", cell: (user) => (user.has_password ? "password or key" : "key") },
    { title: "Projects", cell: (user) => user.projects.map(({ project, role }) => `${project} (${role})`).join(", ") || <span className="dim">none</span> },
    { title: "Lab", cell: (user) => (user.admin ? "admin" : "") },
    {
      title: "Change",
      align: "right",
      cell: (user) => (
        <Confirm action={user.disabled ? "Enable" : "Disable"} about={user.display_name} onConfirm={() => change.mutate({ id: user.id, disabled: !user.disabled })}>
          {user.disabled
            ? `${user.display_name} can sign in again, and their keys are good again.`
            : `Every session and every key of ${user.display_name} ends at once.`}
        </Confirm>
      ),
    },
  ];
  return (
    <Card title="People of the lab" flush>
      {change.isError && (
        <p className={classes.wrong} role="alert">
          {problemOf(change.error).detail}
        </p>
      )}
      <PagedTable label="People of the lab" query={query} columns={columns} empty={<Empty title="Nobody yet">Make the first person below.</Empty>} />
      <details className={classes.add}>
        <summary>New person</summary>
        <RecordForm
          schema="UserRequest"
          action="Create person"
          send={(body) => unwrap(api.POST("/api/v1/users", { body: body as unknown as UserRequest }))}
          onDone={() => void refetch()}
        />
      </details>
    </Card>
  );
}
