import type { GraphNode, GraphPath } from "../../../api/types";
import { Card } from "../../../components/Card";
import { count, percent } from "../../../format";
import { PathSteps } from "../../../graph/PathSteps";
import classes from "./results.module.css";

export interface PathsResult {
  kind: "paths";
  n_paths: number;
  paths: {
    root: GraphNode;
    /** Strongest first. */
    paths: GraphPath[];
    nodes: GraphNode[];
    /** Sum of the scores of all that were found. */
    coverage: number;
    /** Sum of the scores of all that meet the filters and the length. */
    matching: number;
  };
}

/** The strongest paths of a graph to one of its nodes. */
export function Paths({ result: { n_paths, paths: found } }: { result: PathsResult }) {
  const nodes = new Map(found.nodes.map((node) => [node.id, node]));
  return (
    <Card title={`Paths to ${found.root.label}`} aside={`${count(n_paths)} found: ${percent(found.coverage)} of all that leads there`} flush>
      <p className={`${classes.lead} dim`}>
        Paths that meet what was asked carry {percent(found.matching)}; the strongest are shown, all are in <span className="mono">paths.json</span>.
      </p>
      {found.paths.length === 0 && <p className={classes.lead}>No path meets what was asked.</p>}
      <ol className={classes.paths} aria-label="Paths">
        {found.paths.map((path, i) => (
          <li key={i}>
            <span className="dim" title="Product of |edge| over the sum of |edges| into each node on the way">
              {percent(path.score, 2)}
            </span>
            <PathSteps steps={path.steps} nodeOf={(id) => nodes.get(id)} tokenOf={(node) => `position ${node.position}`} />
          </li>
        ))}
      </ol>
    </Card>
  );
}
