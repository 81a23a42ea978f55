import { DataTable, type Column } from "../../../components/DataTable";
import { count, decimal, percent } from "../../../format";
import type { Agreement } from "../../../graph/steering";

interface Named extends Agreement {
  name: string;
}

const COLUMNS: Column<Named>[] = [
  { title: "Movements of", cell: (row) => row.name },
  { title: "Targets", align: "right", help: "Logits and features that the edges say will move", cell: (row) => count(row.targets) },
  { title: "Pearson", align: "right", help: "Between predicted and measured movements", cell: (row) => decimal(row.pearson) },
  { title: "Spearman", align: "right", help: "Between predicted and measured movements", cell: (row) => decimal(row.spearman) },
  { title: "Same sign", align: "right", help: "Share that moved in the predicted direction", cell: (row) => percent(row.same_sign) },
];

/** How well a graph's edges foretold what features do in the model. */
export function Agreements({ label, of }: { label: string; of: Record<string, Agreement> }) {
  const rows = Object.entries(of).map(([name, agreement]) => ({ ...agreement, name }));
  return <DataTable label={label} columns={COLUMNS} rows={rows} rowKey={(row) => row.name} />;
}
