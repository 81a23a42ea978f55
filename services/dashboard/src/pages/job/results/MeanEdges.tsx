import type { NodeType } from "../../../api/types";
import { Card } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { largestOf, Weight } from "../../../components/Weight";
import { count, decimal, percent, signed, token } from "../../../format";
import { Feature, Part } from "./Part";
import classes from "./results.module.css";

interface Source {
  layer: number;
  feature: number;
  mean: number;
  direct: number;
  share: number;
}

interface TokenSource {
  token: string;
  token_id: number;
  mean: number;
}

interface Kind {
  type: NodeType;
  layer: number;
  mean: number;
}

export interface MeanEdgesResult {
  kind: "mean-edges";
  mean_edges: {
    layer: number;
    feature: number;
    tokens: number;
    firings: number;
    mean_activation: number;
    mean_value: number;
    capped: boolean;
    sources: Source[];
    token_sources: TokenSource[];
    parts: Kind[];
  };
}

/** What a feature is made of on held-out tokens, averaged over those on which it is active. */
export function MeanEdges({ result: { mean_edges: found } }: { result: MeanEdgesResult }) {
  const value = `${found.capped ? "capped; " : ""}mean activation ${decimal(found.mean_activation)}, of edges ${decimal(found.mean_value)}`;
  return (
    <Card title={`Mean edges into L${found.layer}/F${found.feature}`} aside={`active on ${count(found.firings)} of ${count(found.tokens)} tokens`} flush>
      <p className={`${classes.lead} dim`}>{value}</p>
      <Part title="Features">
        <DataTable label="Sources" columns={sourceColumns(found.sources)} rows={found.sources} rowKey={(row) => `${row.layer}/${row.feature}`} />
      </Part>
      <div className={classes.pair}>
        <Part title="Tokens">
          <DataTable label="Tokens" columns={tokenColumns(found.token_sources)} rows={found.token_sources} rowKey={(row) => String(row.token_id)} />
        </Part>
        <Part title="All sources of a type and layer" aside={found.capped ? undefined : "they add up"}>
          <DataTable label="Parts" columns={kindColumns(found.parts)} rows={found.parts} rowKey={(row) => `${row.type}/${row.layer}`} />
        </Part>
      </div>
    </Card>
  );
}

function sourceColumns(rows: readonly Source[]): Column<Source>[] {
  const largest = largestOf(rows.map((row) => row.mean));
  return [
    { title: "Feature", cell: (row) => <Feature {...row} /> },
    { title: "Mean edge", align: "right", help: "Over all firings, 0 where it is silent", cell: (row) => <Weight value={row.mean} largest={largest} /> },
    { title: "Of that direct", align: "right", help: "Through the residual stream alone, uncapped", cell: (row) => signed(row.direct) },
    { title: "Contributes to", align: "right", help: "Share of the firings", cell: (row) => percent(row.share) },
  ];
}

function tokenColumns(rows: readonly TokenSource[]): Column<TokenSource>[] {
  const largest = largestOf(rows.map((row) => row.mean));
  return [
    { title: "Token", cell: (row) => <span className="mono">{token(row.token)}</span> },
    { title: "Mean edge", align: "right", cell: (row) => <Weight value={row.mean} largest={largest} /> },
  ];
}

function kindColumns(rows: readonly Kind[]): Column<Kind>[] {
  const largest = largestOf(rows.map((row) => row.mean));
  return [
    { title: "Type", cell: (row) => (row.layer < 0 ? row.type : `${row.type} L${row.layer}`) },
    { title: "Mean edge", align: "right", cell: (row) => <Weight value={row.mean} largest={largest} /> },
  ];
}
