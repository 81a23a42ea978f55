import { percent } from "../format";
import { tokenOf } from "./model";
import { NodeEntry, type Walking } from "./Neighbours";
import classes from "./panel.module.css";
import { PathSteps } from "./PathSteps";

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
                <PathSteps steps={item.steps} nodeOf={(id) => graph.nodes[graph.rowOf.get(id) ?? -1]} tokenOf={(node) => tokenOf(graph, node)} />
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
