import type { GraphNode, NodeType } from "../../../api/types";
import { Card, Facts } from "../../../components/Card";
import { DataTable, type Column } from "../../../components/DataTable";
import { largestOf, Weight } from "../../../components/Weight";
import { nodeName } from "../../../graph/names";
import { decimal, percent, signed, token } from "../../../format";
import { Part } from "./Part";
import classes from "./results.module.css";

/** Null stands for the head's own biases. */
interface Pair {
  query: GraphNode | null;
  key: GraphNode | null;
  weight: number;
}

interface Marginal {
  node: GraphNode | null;
  weight: number;
}

interface Parts {
  query: NodeType | "head";
  key: NodeType | "head";
  weight: number;
}

export interface QKResult {
  kind: "qk";
  tokens: string[];
  qk: {
    layer: number;
    head: number;
    query: number;
    key: number;
    against: number | null;
    score: number;
    cap_at: number | null;
    attention: number;
    attention_against: number | null;
    pairs: Pair[];
    rest: number;
    queries: Marginal[];
    keys: Marginal[];
    parts: Parts[];
  };
}

/** Why a head attends from one position to another: pairs of what is written at both, of either sign, add up to its score. */
export function AttentionScore({ result: { tokens, qk } }: { result: QKResult }) {
  const at = (position: number) => `${position} ${token(tokens[position] ?? "")}`;
  const key = qk.against === null ? at(qk.key) : `${at(qk.key)} rather than ${at(qk.against)}`;
  return (
    <Card title={`L${qk.layer}H${qk.head} at ${at(qk.query)} attends to ${key}`} aside={`score ${signed(qk.score)}`} flush>
      <div className={classes.lead}>
        <Facts rows={facts(qk)} />
      </div>
      <Part title="Pairs" aside={`the strongest, either way; the others sum to ${signed(qk.rest)}`}>
        <DataTable label="Pairs" columns={pairColumns(qk.pairs)} rows={qk.pairs} rowKey={(row) => `${row.query?.id}/${row.key?.id}`} />
      </Part>
      <div className={classes.pair}>
        <Part title="What the query has" aside="with everything of the key">
          <DataTable label="Of the query" columns={marginalColumns(qk.queries)} rows={qk.queries} rowKey={(row) => String(row.node?.id)} />
        </Part>
        <Part title="What the key has" aside="with everything of the query">
          <DataTable label="Of the key" columns={marginalColumns(qk.keys)} rows={qk.keys} rowKey={(row) => String(row.node?.id)} />
        </Part>
      </div>
      <Part title="All pairs by type" aside="they add up to the score">
        <DataTable label="Types" columns={partColumns(qk.parts)} rows={qk.parts} rowKey={(row) => `${row.query}/${row.key}`} />
      </Part>
    </Card>
  );
}

function facts(qk: QKResult["qk"]): [string, string][] {
  const attention = qk.attention_against === null ? percent(qk.attention) : `${percent(qk.attention)} against ${percent(qk.attention_against)}`;
  const score = qk.against === null ? "before the softmax" : "of the one less that of the other, before the softmax";
  const rows: [string, string][] = [
    ["score", `${signed(qk.score)}, ${score}`],
    ["attention", attention],
  ];
  if (qk.cap_at !== null) rows.push(["cap", `the model caps scores at ${decimal(qk.cap_at)}; this is the score before it`]);
  return rows;
}

const BIASES = "the head's biases";

function name(node: GraphNode | null): string {
  return node === null ? BIASES : nodeName(node);
}

function type(of: Parts["query"]): string {
  return of === "head" ? BIASES : of;
}

function pairColumns(rows: readonly Pair[]): Column<Pair>[] {
  const largest = largestOf(rows.map((row) => row.weight));
  return [
    { title: "In the query", cell: (row) => name(row.query) },
    { title: "In the key", cell: (row) => name(row.key) },
    { title: "Adds", align: "right", help: "To the score; below 0 it holds the head back", cell: (row) => <Weight value={row.weight} largest={largest} /> },
  ];
}

function marginalColumns(rows: readonly Marginal[]): Column<Marginal>[] {
  const largest = largestOf(rows.map((row) => row.weight));
  return [
    { title: "Node", cell: (row) => name(row.node) },
    { title: "Adds", align: "right", cell: (row) => <Weight value={row.weight} largest={largest} /> },
  ];
}

function partColumns(rows: readonly Parts[]): Column<Parts>[] {
  const largest = largestOf(rows.map((row) => row.weight));
  return [
    { title: "In the query", cell: (row) => type(row.query) },
    { title: "In the key", cell: (row) => type(row.key) },
    { title: "Adds", align: "right", cell: (row) => <Weight value={row.weight} largest={largest} /> },
  ];
}
