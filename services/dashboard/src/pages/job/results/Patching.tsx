import { Card } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { decimal, NONE, signed, token } from "../../../format";

interface Effect {
  place: string;
  layer: number;
  head: number | null;
  position: number | null;
  value: number;
  score: number;
}

interface Summary {
  clean_tokens: string[];
  corrupt_tokens: string[];
  answer: string;
  wrong: string;
  metric: string;
  direction: "denoising" | "noising";
  clean_value: number;
  corrupt_value: number;
}

export interface PatchResult {
  kind: "patching";
  summary: Summary;
  strongest: Effect[];
}

/** The places whose patch moves the metric farthest; all of them are in the artifacts. */
export function Patching({ result: { summary, strongest } }: { result: PatchResult }) {
  const columns: Column<Effect>[] = [
    { title: "Place", cell: (row) => <span className="mono">{row.place}</span> },
    { title: "Layer", align: "right", cell: (row) => (row.layer < 0 ? "embedding" : row.layer) },
    { title: "Head", align: "right", cell: (row) => row.head ?? NONE },
    { title: "Position", cell: (row) => (row.position === null ? "all" : position(summary, row.position)) },
    { title: "Value", align: "right", cell: (row) => decimal(row.value) },
    {
      title: "Score",
      align: "right",
      help: "(value − corrupt) / (clean − corrupt)",
      cell: (row) => <span style={{ background: shade(row.score, summary.direction) }}>{signed(row.score)}</span>,
    },
  ];
  const less = summary.metric === "logit-difference" ? ` ${token(summary.answer)} less ${token(summary.wrong)}` : "";
  return (
    <Card
      title={`Patching, ${summary.direction}`}
      aside={`${summary.metric}${less}: clean ${decimal(summary.clean_value)}, corrupt ${decimal(summary.corrupt_value)}`}
      flush
    >
      <DataTable label="Patching" columns={columns} rows={strongest} rowKey={(row) => [row.place, row.layer, row.head, row.position].join("/")} />
    </Card>
  );
}

function position({ clean_tokens, corrupt_tokens }: Summary, at: number): string {
  const [clean, corrupt] = [token(clean_tokens[at] ?? ""), token(corrupt_tokens[at] ?? "")];
  return `${at} ${clean === corrupt ? clean : `${clean} | ${corrupt}`}`;
}

/** As in the picture: blue as far as the patch brings the metric to where the other prompt has it, red where it repels it. */
function shade(score: number, direction: Summary["direction"]): string {
  const share = direction === "denoising" ? score : 1 - score;
  return `rgb(${share >= 0 ? "33 102 172" : "178 24 43"} / ${0.45 * Math.min(1, Math.abs(share))})`;
}
