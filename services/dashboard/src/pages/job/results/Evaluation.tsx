import type { CoderMetrics } from "../../../api/types";
import { Card } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { Histogram } from "../../../components/Histogram";
import { count, decimal, NONE, percent } from "../../../format";

type Splice = Pick<CoderMetrics, "ce_original" | "ce_spliced" | "agreement" | "kl" | "loss_recovered_zero"> & {
  intervals?: CoderMetrics["intervals"];
  /** What `loss_recovered_zero` was called at first. */
  loss_recovered?: number | null;
};

export interface EvaluationResult {
  kind: "evaluation";
  coders: CoderMetrics[];
  all_replaced?: Splice | null;
}

interface Evaluated extends Splice {
  /** What stands at the layer: a number, or all of them. */
  layer: number | string;
  coder?: CoderMetrics;
}

const COLUMNS: Column<Evaluated>[] = [
  { title: "Layer", align: "right", cell: (row) => row.layer },
  { title: "FVU", align: "right", help: "Fraction of variance unexplained", cell: (row) => interval(row, "fvu", row.coder?.fvu) },
  { title: "L0", align: "right", help: "Mean active features a token", cell: (row) => decimal(row.coder?.l0, 1) },
  {
    title: "CE",
    align: "right",
    help: "Cross-entropy with the coder in place, nats a token",
    cell: (row) => interval(row, "ce_spliced", row.ce_spliced),
  },
  {
    title: "Loss recovered",
    align: "right",
    help: "(CE zeroed − CE spliced) / (CE zeroed − CE original)",
    cell: (row) => percent(row.loss_recovered_zero ?? row.loss_recovered),
  },
  {
    title: "KL",
    align: "right",
    help: "From the model's own next-token distribution to the spliced one, nats a token",
    cell: (row) => interval(row, "kl", row.kl),
  },
  { title: "Agreement", align: "right", help: "Share of tokens with the same most likely next token", cell: (row) => percent(row.agreement) },
  { title: "Dead", align: "right", help: "Share of features never active", cell: (row) => percent(row.coder?.dead_fraction) },
  {
    title: "Dense",
    align: "right",
    help: "Features active on more than a tenth of the tokens",
    cell: (row) => (row.coder?.dense == null ? NONE : count(row.coder.dense)),
  },
  {
    title: "Frequencies",
    help: "Features by log10 of the share of tokens they are active on, from 1e-6 to 1; the tick marks 1e-3",
    cell: (row) => row.coder?.frequencies && <Histogram of={row.coder.frequencies} />,
  },
];

/** Each coder alone in the model, then all of them at once. */
export function Evaluation({ result }: { result: EvaluationResult }) {
  const rows: Evaluated[] = result.coders.map((coder) => ({ ...coder, coder }));
  if (result.all_replaced) rows.push({ ...result.all_replaced, layer: "all" });
  const [first] = rows;
  return (
    <Card title="Evaluation on held-out tokens" aside={first && `CE without coders ${decimal(first.ce_original)}`} flush>
      <DataTable label="Evaluation" columns={COLUMNS} rows={rows} rowKey={(row) => String(row.layer)} />
    </Card>
  );
}

/** A value, with its 95 % interval on hover. */
function interval(row: Evaluated, name: string, value: number | null | undefined) {
  const ends = row.intervals?.[name];
  return <span title={ends && `95 % interval over rows: ${decimal(ends.low)} to ${decimal(ends.high)}`}>{decimal(value)}</span>;
}
