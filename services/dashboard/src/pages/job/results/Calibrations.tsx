import { Card } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { count, decimal } from "../../../format";

interface Calibration {
  layer: number;
  tokens: number;
  tokens_measured: number;
  l0_before: number;
  l0_after: number;
  fvu_before: number;
  fvu_after: number;
}

export interface ExportResult {
  kind: "export";
  format: string;
  calibration: Calibration[];
}

const COLUMNS: Column<Calibration>[] = [
  { title: "Layer", align: "right", cell: (row) => row.layer },
  { title: "L0 with TopK", align: "right", cell: (row) => decimal(row.l0_before, 1) },
  { title: "L0 with thresholds", align: "right", cell: (row) => decimal(row.l0_after, 1) },
  { title: "FVU with TopK", align: "right", cell: (row) => decimal(row.fvu_before) },
  { title: "FVU with thresholds", align: "right", cell: (row) => decimal(row.fvu_after) },
  { title: "Tokens", align: "right", help: "Held-out tokens that both were measured on", cell: (row) => count(row.tokens_measured) },
];

/** What thresholds in place of TopK cost the coders that were exported. */
export function Calibrations({ result }: { result: ExportResult }) {
  return (
    <Card title={`Coders for ${result.format}`} flush={result.calibration.length > 0}>
      {result.calibration.length > 0 ? (
        <DataTable label="Calibration" columns={COLUMNS} rows={result.calibration} rowKey={(row) => String(row.layer)} />
      ) : (
        <p className="dim">The files are among the artifacts. Nothing was lost: no threshold had to be found.</p>
      )}
    </Card>
  );
}
