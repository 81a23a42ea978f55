import { percent } from "../format";
import { tokenOf, type Graph } from "./model";
import { NodeEntry, type Walking } from "./Neighbours";
import classes from "./panel.module.css";

interface Props extends Walking {
  path: number | null;
  onPath: (path: number | null) => void;
}

const FEATURES = 25;

/** With nothing selected: where to begin. */
export function OverviewPanel({ path, onPath, ...walking }: Props) {
  const { graph } = walking;
  const top = [...graph.nodes.keys()]
    .filter((row) => graph.nodes[row]?.type === "feature")
    .sort((a, b) => (graph.nodes[b]?.influence ?? 0) - (graph.nodes[a]?.influence ?? 0))
    .slice(0, FEATURES);
  return (
    <section className={classes.panel} aria-label="Overview">
      <div className={classes.scroll}>
        <h2 className={classes.sub}>
          Strongest paths <span title="Product of |edge| over the sum of |edges| into each node on the way">score</span>
        </h2>
        {graph.document.paths.length === 0 && <p className={classes.none}>No path leads from a token to a logit.</p>}
        <ul className={classes.list} aria-label="Strongest paths">
          {graph.document.paths.map((item, i) => (
            <li key={i}>
              <button
                type="button"
                className={`${classes.entry} ${classes.path}`}
                aria-pressed={path === i}
                onClick={() => onPath(path === i ? null : i)}
              >
                <span className={`${classes.num} dim`}>{percent(item.score, 2)}</span>
                <PathSteps graph={graph} index={i} />
              </button>
            </li>
          ))}
        </ul>
        <h2 className={classes.sub}>
          Most influential features <span>influence</span>
        </h2>
        {top.length === 0 && <p className={classes.none}>No feature is in this picture: every layer here is error.</p>}
        <ul className={classes.list} aria-label="Most influential features">
          {top.map((row) => (
            <NodeEntry key={row} {...walking} row={row}>
              <span />
              <span />
              <span className={classes.num}>{percent(graph.nodes[row]?.influence)}</span>
            </NodeEntry>
          ))}
        </ul>
      </div>
    </section>
  );
}

function PathSteps({ graph, index }: { graph: Graph; index: number }) {
  return (
    <span className={classes.steps}>
      {graph.document.paths[index]?.steps.map((step, i) => {
        const node = graph.nodes[graph.rowOf.get(step.node) ?? -1];
        const sign = (step.edge ?? 0) < 0 ? "-" : "+";
        return [
          node && node.type !== "feature" ? (
            <b key={i}>{node.label}</b>
          ) : (
            <span key={i} title={node && tokenOf(graph, node)}>{node?.label ?? "?"}</span>
          ),
          step.edge !== null && step.edge !== undefined && (
            <span key={`${i}>`} className={classes.arrow} data-sign={sign} title={`share ${percent(step.share)}`}>
              →
            </span>
          ),
        ];
      })}
    </span>
  );
}
