import type { GraphPath } from "../api/types";
import { percent } from "../format";
import type { PictureNode } from "./model";
import { nodeName } from "./names";
import classes from "./panel.module.css";

interface Props {
  steps: GraphPath["steps"];
  nodeOf: (id: number) => PictureNode | undefined;
  /** The token of a node. */
  tokenOf?: (node: PictureNode) => string | undefined;
}

/** A path from its leaf on, an arrow an edge, coloured by its sign. */
export function PathSteps({ steps, nodeOf, tokenOf }: Props) {
  return (
    <span className={classes.steps}>
      {steps.map((step, i) => {
        const node = nodeOf(step.node);
        const sign = (step.edge ?? 0) < 0 ? "-" : "+";
        return [
          node && node.type !== "feature" ? (
            <b key={i}>{nodeName(node)}</b>
          ) : (
            <span key={i} title={node && tokenOf?.(node)}>{node ? nodeName(node) : "?"}</span>
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
