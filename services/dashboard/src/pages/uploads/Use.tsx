import { Button, Menu } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { api, unwrap } from "../../api/client";
import { problemOf } from "../../api/problem";
import type { JobKind, UploadDetail, UploadView } from "../../api/types";
import { sourceKind } from "./sources";

const USES: [JobKind, string][] = [
  ["build-dataset", "Build a dataset"],
  ["import-model", "Import a model"],
  ["import-coders", "Import coders"],
  ["import-graph", "Import a graph"],
];

/** Opens the form of a job that reads the upload. */
export function Use({ upload }: { upload: UploadView | UploadDetail }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const use = useMutation({
    mutationFn: async (kind: JobKind) => {
      const { ref, contents } = await client.query({
        queryKey: ["record", "upload", upload.id],
        queryFn: ({ signal }) => unwrap(api.GET("/api/v1/uploads/{upload_id}", { params: { path: { upload_id: upload.id } }, signal })),
      });
      const fill = kind === "build-dataset" ? { source: { kind: sourceKind(contents.map(({ name }) => name)), path: ref } } : { path: ref };
      await navigate({ to: "/submit", search: { kind, fill } });
    },
  });
  return (
    <>
      {use.error && <span role="alert">{problemOf(use.error).detail} </span>}
      <Menu position="bottom-end" withInitialFocusPlaceholder={false}>
        <Menu.Target>
          <Button size="compact-sm" variant="default" aria-label={`Use ${upload.name}`}>
            Use
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          {USES.map(([kind, title]) => (
            <Menu.Item key={kind} onClick={() => use.mutate(kind)}>
              {title}
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
    </>
  );
}
