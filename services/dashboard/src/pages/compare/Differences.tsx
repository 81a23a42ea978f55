import { differences, type Difference, type Run } from "../../charts/runs";
import { Card } from "../../components/Card";
import { DataTable, type Column } from "../../components/DataTable";
import { NONE } from "../../format";
import classes from "./compare.module.css";

/** The fields of their specs in which the runs differ. */
export function Differences({ runs }: { runs: readonly Run[] }) {
  const rows = differences(runs.map((run) => run.spec));
  const columns: Column<Difference>[] = [
    { title: "Field", cell: (row) => <span className="mono">{row.path}</span> },
    ...runs.map((run, i): Column<Difference> => ({
      title: run.label,
      cell: (row) => <span className={`mono ${classes.value}`}>{row.values[i] ?? NONE}</span>,
    })),
  ];
  return (
    <Card title="What differs" flush={rows.length > 0}>
      {rows.length === 0 ? <span className="dim">Their specs are the same.</span> : <DataTable label="What differs" columns={columns} rows={rows} rowKey={(row) => row.path} />}
    </Card>
  );
}
