import { useQuery } from "@tanstack/react-query";

import { artifactsQuery } from "../../api/queries";
import type { ArtifactView } from "../../api/types";
import { Card } from "../../components/Card";
import { DataTable, type Column } from "../../components/DataTable";
import { Digest } from "../../components/Digest";
import { Download } from "../../components/icons";
import { Failed } from "../../components/States";
import { bytes } from "../../format";

const COLUMNS: Column<ArtifactView>[] = [
  { title: "Name", cell: (artifact) => <span className="mono">{artifact.name}</span> },
  { title: "Size", align: "right", cell: (artifact) => bytes(artifact.size) },
  {
    title: "sha256",
    cell: (artifact) => <Digest value={artifact.sha256} />,
  },
  {
    title: "Download",
    align: "right",
    cell: (artifact) => (
      <a href={artifact.url} download aria-label={`Download ${artifact.name}`} title="Download">
        <Download />
      </a>
    ),
  },
];

export function Artifacts({ id }: { id: string }) {
  const { data, error, refetch } = useQuery(artifactsQuery(id));
  if (error && !data) return <Failed error={error} retry={() => void refetch()} />;
  if (!data || data.length === 0) return null;
  const total = data.reduce((sum, artifact) => sum + artifact.size, 0);
  return (
    <Card title="Artifacts" aside={`${data.length} ${data.length === 1 ? "file" : "files"}, ${bytes(total)}`} flush>
      <DataTable label="Artifacts" columns={COLUMNS} rows={data} rowKey={(artifact) => artifact.id} />
    </Card>
  );
}
