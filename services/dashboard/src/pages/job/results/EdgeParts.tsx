import type { GraphNode } from "../../../api/types";
import { Card, Facts } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { largestOf, Weight } from "../../../components/Weight";
import { nodeName } from "../../../graph/names";
import { percent, signed, token } from "../../../format";
import { Part } from "./Part";
import classes from "./results.module.css";
import { shade } from "./shade";

/** What a head carries as the last one on the way to the target. */
interface Carried {
  layer: number;
  head: number;
  position: number;
  weight: number;
}

interface Layer {
  layer: number;
  /** What passes none of its heads. */
  around: number;
  heads: number[];
}

export interface EdgeResult {
  kind: "edge";
  tokens: string[];
  split: {
    source: GraphNode;
    target: GraphNode;
    edge: number;
    stored: number | null;
    share: number | null;
    capped: number | null;
    direct: number;
    parts: Carried[];
    rest: number;
    positions: number[];
    layers: Layer[];
  };
}

/** An edge by the head that carries it and the position that the head reads from; the parts add up. */
export function EdgeParts({ result: { tokens, split } }: { result: EdgeResult }) {
  const far = largestOf(split.positions);
  return (
    <Card title={`${nodeName(split.source)} → ${nodeName(split.target)}`} aside={`edge ${signed(split.edge)}`} flush>
      <div className={classes.pair}>
        <Part title="The edge">
          <div className={classes.lead}>
            <Facts rows={facts(split)} />
          </div>
        </Part>
        <Part title="Where heads read it" aside="sum over heads, by position">
          <ol className={classes.tokens} aria-label="Positions">
            {split.positions.map((weight, position) => (
              <li key={position} className="mono" style={{ background: shade(weight, far) }} title={`position ${position}: ${signed(weight)}`}>
                {token(tokens[position] ?? "")}
              </li>
            ))}
          </ol>
        </Part>
      </div>
      <Part title="Heads that carry it" aside={`the strongest; the other parts sum to ${signed(split.rest)}`}>
        <DataTable
          label="Heads"
          columns={carriedColumns(tokens, largestOf(split.parts.map((part) => part.weight)))}
          rows={split.parts}
          rowKey={(part) => `${part.layer}/${part.head}/${part.position}`}
        />
      </Part>
      {split.layers.length > 0 && (
        <Part title="Layer by layer" aside="whatever comes before and after; each line adds up to the edge">
          <DataTable label="Layers" columns={layerColumns(split.layers)} rows={split.layers} rowKey={(row) => String(row.layer)} />
        </Part>
      )}
    </Card>
  );
}

function facts({ edge, stored, share, capped, direct }: EdgeResult["split"]): [string, React.ReactNode][] {
  return [
    ["edge", share === null ? signed(edge) : `${signed(edge)}, ${percent(share)} of the sum of |edges| into its target`],
    ["in the graph", stored === null ? "not computed there" : signed(stored)],
    ["capped", capped === null ? "a logit has no cap" : `${signed(capped)}, what the target would lose without this source alone`],
    ["through no head", signed(direct)],
  ];
}

function carriedColumns(tokens: readonly string[], largest: number): Column<Carried>[] {
  return [
    { title: "Head", cell: (part) => <span className="mono">{`L${part.layer}H${part.head}`}</span> },
    { title: "Reads", cell: (part) => <span className="mono">{`${part.position} ${token(tokens[part.position] ?? "")}`}</span> },
    { title: "Carries", align: "right", cell: (part) => <Weight value={part.weight} largest={largest} /> },
  ];
}

function layerColumns(layers: readonly Layer[]): Column<Layer>[] {
  const largest = largestOf(layers.flatMap((layer) => layer.heads));
  return [
    { title: "Layer", align: "right", cell: ({ layer }) => layer },
    { title: "Through no head", align: "right", cell: ({ around }) => signed(around) },
    {
      title: "Through head 0, 1, …",
      cell: ({ heads }) => (
        <span className={classes.heads}>
          {heads.map((weight, head) => (
            <span key={head} style={{ background: shade(weight, largest) }} title={`head ${head}: ${signed(weight)}`}>
              {signed(weight)}
            </span>
          ))}
        </span>
      ),
    },
  ];
}
