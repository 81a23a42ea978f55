import { Button } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, unwrap } from "../../api/client";
import { problemOf } from "../../api/problem";
import { keysQuery } from "../../api/queries";
import type { KeyRequest, KeyView, NewKeyView, SessionView } from "../../api/types";
import { Card } from "../../components/Card";
import { Confirm } from "../../components/Confirm";
import { Copy } from "../../components/Copy";
import type { Column } from "../../components/DataTable";
import { PagedTable } from "../../components/PagedTable";
import { Empty } from "../../components/States";
import { Ago } from "../../components/Time";
import { NONE } from "../../format";
import { RecordForm } from "../../forms/RecordForm";
import classes from "./people.module.css";

const OF_MANAGERS = ["service"];

/** Keys of the project: one's own, and to who manages them all. A key is shown once, when it is made. */
export function Keys({ session, manages }: { session: SessionView; manages: boolean }) {
  const client = useQueryClient();
  const query = useInfiniteQuery(keysQuery);
  const [fresh, setFresh] = useState<NewKeyView | null>(null);
  const refetch = () => client.invalidateQueries({ queryKey: keysQuery.queryKey });
  const rotate = useMutation({
    mutationFn: (id: string) => unwrap(api.POST("/api/v1/keys/{key_id}/rotate", { params: { path: { key_id: id } } })),
    onSuccess: (key) => {
      setFresh(key);
      void refetch();
    },
  });
  const revoke = useMutation({
    mutationFn: (id: string) => unwrap(api.DELETE("/api/v1/keys/{key_id}", { params: { path: { key_id: id } } })),
    onSuccess: (_, id) => {
      if (fresh?.id === id) setFresh(null);
      void refetch();
    },
  });
  const error = rotate.error ?? revoke.error;
  const columns: Column<KeyView>[] = [
    { title: "Name", cell: (key) => <span className={key.live ? undefined : classes.gone}>{key.name}</span> },
    { title: "Ends in", cell: (key) => <span className="mono">…{key.hint}</span> },
    { title: "Of", cell: (key) => key.user ?? <span className="dim">the project</span> },
    { title: "May", cell: (key) => (key.scopes === null ? <span className="dim">all that its owner may</span> : key.scopes.join(", ")) },
    { title: "Last used", align: "right", cell: (key) => (key.last_used_at ? <Ago at={key.last_used_at} /> : "never") },
    { title: "Expires", align: "right", cell: (key) => (key.expires_at ? new Date(key.expires_at).toLocaleDateString() : NONE) },
    {
      title: "Change",
      align: "right",
      cell: (key) =>
        key.live ? (
          <span className="nowrap">
            {(manages || key.user === session.user) && (
              <Confirm action="Rotate" about={key.name} pending={rotate.isPending} onConfirm={() => rotate.mutate(key.id)}>
                {key.name} gets a new secret. The present one is refused at once.
              </Confirm>
            )}{" "}
            <Confirm action="Revoke" about={key.name} pending={revoke.isPending} onConfirm={() => revoke.mutate(key.id)}>
              {key.name} is refused from now on, and so are sessions that it opened.
            </Confirm>
          </span>
        ) : (
          <span className="dim">{key.revoked_at ? "revoked" : "no longer good"}</span>
        ),
    },
  ];
  return (
    <Card title="Keys" flush>
      {fresh && <Secret made={fresh} onDone={() => setFresh(null)} />}
      {error && (
        <p className={classes.wrong} role="alert">
          {problemOf(error).detail}
        </p>
      )}
      <PagedTable label="Keys" query={query} columns={columns} empty={<Empty title="No keys yet">A key opens this project to the command line and to programs.</Empty>} />
      <details className={classes.add}>
        <summary>New key</summary>
        <RecordForm
          schema="KeyRequest"
          action="Create key"
          without={manages ? undefined : OF_MANAGERS}
          send={(body) => unwrap(api.POST("/api/v1/keys", { body: body as unknown as KeyRequest }))}
          onDone={(key) => {
            setFresh(key);
            void refetch();
          }}
        />
      </details>
    </Card>
  );
}

function Secret({ made, onDone }: { made: NewKeyView; onDone: () => void }) {
  return (
    <div className={classes.secret} role="status" aria-label="The new key">
      <p>
        This is the key <b>{made.name}</b>. Copy it now: it is not shown again.
      </p>
      <code className="mono">{made.key}</code>
      <span>
        <Copy text={made.key} variant="default" />{" "}
        <Button size="compact-xs" variant="subtle" onClick={onDone}>
          I have it
        </Button>
      </span>
    </div>
  );
}
