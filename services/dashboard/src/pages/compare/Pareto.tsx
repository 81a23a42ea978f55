import { SegmentedControl, useComputedColorScheme } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { api, unwrap } from "../../api/client";
import type { CoderView } from "../../api/types";
import { hue } from "../../charts/palette";
import { MEASURES, PAIRS, type Run } from "../../charts/runs";
import { Card } from "../../components/Card";
import { DataTable, type Column } from "../../components/DataTable";
import { Scatter, type Point } from "../../components/Scatter";
import { decimal } from "../../format";
import classes from "./compare.module.css";

const FIRST = "l0-fvu";
/** As many coders of a run as the lab tells at once. */
const MOST = 200;

interface Props {
  runs: readonly Run[];
  pair: string | undefined;
  onPair: (pair: string | undefined) => void;
}

interface Row {
  run: Run;
  coder: CoderView;
  point: Point | null;
}

/** Every evaluated coder of the runs by how sparse and how faithful it is. */
export function Pareto({ runs, pair, onPair }: Props) {
  const dark = useComputedColorScheme("light") === "dark";
  const coders = useQueries({
    queries: runs.map((run) => ({
      queryKey: ["records", "coders", run.id, MOST],
      queryFn: async ({ signal }: { signal: AbortSignal }) =>
        (await unwrap(api.GET("/api/v1/coders", { params: { query: { job: run.id, limit: MOST } }, signal }))).items,
    })),
  });
  const chosen = pair && pair in PAIRS ? pair : FIRST;
  const [across, up] = PAIRS[chosen] ?? (["l0", "fvu"] as const);
  const rows = runs.flatMap((run, i): Row[] =>
    (coders[i]?.data ?? []).map((coder) => {
      const [x, y] = [MEASURES[across].of(coder), MEASURES[up].of(coder)];
      const colour = hue(i, runs.length, dark);
      return { run, coder, point: x == null || y == null ? null : { x, y, label: `${run.label} L${coder.layer}`, colour } };
    }),
  );
  const points = rows.flatMap(({ point }) => (point ? [point] : []));
  const columns: Column<Row>[] = [
    { title: "Run", cell: ({ run }) => run.label },
    { title: "Layer", align: "right", cell: ({ coder }) => <Link to="/coders/$id" params={{ id: coder.id }}>{coder.layer}</Link> },
    ...Object.values(MEASURES).map((measure): Column<Row> => ({
      title: measure.name,
      align: "right",
      help: measure.help,
      cell: ({ coder }) => decimal(measure.of(coder)),
    })),
  ];
  return (
    <Card
      title="Sparsity against fidelity"
      aside={
        <SegmentedControl
          size="xs"
          aria-label="Measures"
          data={Object.entries(PAIRS).map(([value, [a, b]]) => ({ value, label: `${MEASURES[a].name} / ${MEASURES[b].name}` }))}
          value={chosen}
          onChange={(value) => onPair(value === FIRST ? undefined : value)}
        />
      }
    >
      {points.length === 0 ? (
        <span className="dim">
          No coder of these runs has been evaluated. <Unevaluated runs={runs} />
        </span>
      ) : (
        <div className={classes.stack}>
          <Scatter label={`${MEASURES[across].name} against ${MEASURES[up].name} of ${points.length} coders`} x={MEASURES[across].name} y={MEASURES[up].name} points={points} />
          {points.length < rows.length && <span className="dim">{rows.length - points.length} of {rows.length} coders have not been evaluated.</span>}
          <details>
            <summary>The numbers</summary>
            <DataTable label="Coders compared" columns={columns} rows={rows.filter(({ point }) => point)} rowKey={({ coder }) => coder.id} />
          </details>
        </div>
      )}
    </Card>
  );
}

function Unevaluated({ runs }: { runs: readonly Run[] }) {
  const [first] = runs;
  if (!first) return null;
  return (
    <Link to="/submit" search={{ kind: "evaluate", fill: { coders: first.id } }}>
      Evaluate those of {first.label}
    </Link>
  );
}
