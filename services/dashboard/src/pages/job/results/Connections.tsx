import { Card } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { largestOf, Weight } from "../../../components/Weight";
import { decimal, percent, token } from "../../../format";
import { Feature, Part } from "./Part";
import classes from "./results.module.css";

interface FeatureWeight {
  layer: number;
  feature: number;
  weight: number;
}

interface TokenWeight {
  token_id: number;
  token: string;
  weight: number;
}

/** Both ends of the vocabulary. */
interface Tokens {
  highest: TokenWeight[];
  lowest: TokenWeight[];
}

interface Head {
  layer: number;
  head: number;
  side: "upstream" | "downstream";
  norm: number;
  share: number;
}

export interface ConnectionsResult {
  kind: "connections";
  connections: {
    layer: number;
    feature: number;
    upstream: FeatureWeight[];
    downstream: FeatureWeight[];
    heads: Head[];
    reads: Tokens;
    promotes: Tokens;
  };
}

const HEADS: Column<Head>[] = [
  { title: "Head", cell: (row) => <span className="mono">{`L${row.layer}H${row.head}`}</span> },
  { title: "Side", cell: (row) => (row.side === "upstream" ? "read through it" : "written through it") },
  { title: "Norm", align: "right", help: "Of what passes the head's W_O W_V", cell: (row) => decimal(row.norm) },
  { title: "Share", align: "right", help: "Of the most that a matrix of its Frobenius norm could pass", cell: (row) => percent(row.share) },
];

/** What the weights alone connect to a feature: those it reads and those that read it, heads and tokens. */
export function Connections({ result: { connections: found } }: { result: ConnectionsResult }) {
  return (
    <Card title={`Connections of L${found.layer}/F${found.feature}`} aside="of the weights alone; the strongest, all in connections.json" flush>
      <div className={classes.pair}>
        <FeatureTable title="Features it reads" rows={found.upstream} none="Nothing below has features." />
        <FeatureTable title="Features that read it" rows={found.downstream} none="Nothing above has features." />
        <TokenTable title="Tokens it reads" of={found.reads} />
        <TokenTable title="Tokens it promotes" of={found.promotes} />
      </div>
      {found.heads.length > 0 && (
        <Part title="Heads">
          <DataTable label="Heads" columns={HEADS} rows={found.heads} rowKey={(row) => `${row.side}/${row.layer}/${row.head}`} />
        </Part>
      )}
    </Card>
  );
}

function FeatureTable({ title, rows, none }: { title: string; rows: readonly FeatureWeight[]; none: string }) {
  const largest = largestOf(rows.map((row) => row.weight));
  const columns: Column<FeatureWeight>[] = [
    { title: "Feature", cell: (row) => <Feature {...row} /> },
    { title: "Weight", align: "right", cell: (row) => <Weight value={row.weight} largest={largest} /> },
  ];
  return (
    <Part title={title}>
      {rows.length > 0 ? (
        <DataTable label={title} columns={columns} rows={rows} rowKey={(row) => `${row.layer}/${row.feature}`} />
      ) : (
        <p className={`${classes.lead} dim`}>{none}</p>
      )}
    </Part>
  );
}

function TokenTable({ title, of }: { title: string; of: Tokens }) {
  const rows = [...of.highest, ...of.lowest.toReversed()];
  const largest = largestOf(rows.map((row) => row.weight));
  const columns: Column<TokenWeight>[] = [
    { title: "Token", cell: (row) => <span className="mono">{token(row.token)}</span> },
    { title: "Weight", align: "right", cell: (row) => <Weight value={row.weight} largest={largest} /> },
  ];
  if (rows.length === 0) return null;
  return (
    <Part title={title} aside="most, then least">
      <DataTable label={title} columns={columns} rows={rows} rowKey={(row) => String(row.token_id)} />
    </Part>
  );
}
