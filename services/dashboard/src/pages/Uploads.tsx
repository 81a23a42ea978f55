import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { api, unwrap } from "../api/client";
import { problemOf } from "../api/problem";
import { sessionQuery, uploadsQuery } from "../api/queries";
import type { UploadView } from "../api/types";
import { Card, PageTitle } from "../components/Card";
import { Confirm } from "../components/Confirm";
import type { Column } from "../components/DataTable";
import { PagedTable } from "../components/PagedTable";
import { Empty } from "../components/States";
import { Ago } from "../components/Time";
import { bytes, count, NONE } from "../format";
import { Outgoing } from "./uploads/Outgoing";
import { Picker } from "./uploads/Picker";
import classes from "./uploads/uploads.module.css";
import { Use } from "./uploads/Use";

/** Files that people bring: sent from here to the object store, named by jobs until their time is over. */
export default function Uploads() {
  const client = useQueryClient();
  const query = useInfiniteQuery(uploadsQuery);
  const { data: session } = useQuery(sessionQuery);
  const refetch = () => void client.invalidateQueries({ queryKey: uploadsQuery.queryKey });
  const remove = useMutation({
    mutationFn: (id: string) => unwrap(api.DELETE("/api/v1/uploads/{upload_id}", { params: { path: { upload_id: id } } })),
    onSuccess: refetch,
  });
  const submits = session?.permissions.includes("job:submit") ?? false;
  const manages = session?.permissions.includes("job:manage") ?? false;
  const columns: Column<UploadView>[] = [
    { title: "Name", cell: (upload) => upload.name },
    { title: "State", cell: (upload) => (upload.state === "complete" ? "complete" : <span className="dim">on its way</span>) },
    { title: "Files", align: "right", cell: (upload) => count(upload.files) },
    { title: "Size", align: "right", cell: (upload) => bytes(upload.size) },
    { title: "By", cell: (upload) => upload.user ?? NONE },
    { title: "Created", align: "right", cell: (upload) => <Ago at={upload.created_at} /> },
    { title: "Kept until", align: "right", help: "Longer where a job that has not ended needs it", cell: (upload) => new Date(upload.expires_at).toLocaleDateString() },
    {
      title: "Actions",
      align: "right",
      cell: (upload) => (
        <span className="nowrap">
          {submits && upload.state === "complete" && <Use upload={upload} />}{" "}
          {submits && (manages || upload.user === session?.user) && (
            <Confirm action="Remove" about={upload.name} pending={remove.isPending && remove.variables === upload.id} onConfirm={() => remove.mutate(upload.id)}>
              No job can name {upload.name} any more. What jobs made of it stays.
            </Confirm>
          )}
        </span>
      ),
    },
  ];
  return (
    <>
      <PageTitle title="Uploads" />
      <div className={classes.stack}>
        {submits && <Picker onSent={refetch} />}
        <Outgoing onSent={refetch} />
        {remove.error && (
          <p className={classes.wrong} role="alert">
            {problemOf(remove.error).detail}
          </p>
        )}
        <Card flush>
          <PagedTable
            label="Uploads"
            query={query}
            columns={columns}
            empty={
              <Empty title="No uploads yet" command="clew upload FILE_OR_FOLDER">
                Text, JSON lines or Parquet for a dataset, a model's folder, coders, a graph: what a job reads and the lab does not have.
              </Empty>
            }
          />
        </Card>
      </div>
    </>
  );
}
