import { Tooltip } from "@mantine/core";

import type { GraphSummary } from "../api/types";
import { count, percent, token } from "../format";
import classes from "./GraphHeader.module.css";
import { targetName } from "./model";

/** What was asked, what the model says next, and how far the graph can be trusted. */
export function GraphHeader({ summary }: { summary: GraphSummary }) {
  return (
    <div className={classes.header}>
      <div>
        <p className={classes.prompt}>{summary.prompt}</p>
        <ul className={classes.targets} aria-label={summary.target_rule === "given" ? "Explained" : "Likeliest next tokens"}>
          {summary.targets.map((target, index) => (
            <li key={index} title={`${target.logit.toFixed(2)} ${measured(target)}`}>
              <i style={{ width: `${60 * target.probability}px` }} />
              <span className="mono">{targetName(target)}</span>
              <span className="dim">{percent(target.probability)}</span>
            </li>
          ))}
        </ul>
      </div>
      <dl className={classes.scores}>
        {scores(summary).map(([name, value, help]) => (
          <Tooltip key={name} label={help} multiline w={300} events={{ hover: true, focus: true, touch: true }}>
            <div tabIndex={0}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          </Tooltip>
        ))}
      </dl>
    </div>
  );
}

function scores({ scores, conservation, selection }: GraphSummary): [string, string, string][] {
  const parts = scores.error_parts;
  return [
    ["Replacement", percent(scores.replacement), "Share of the paths from tokens to logits that run through features alone, weighted by influence. What features leave unexplained counts against it."],
    ["Completeness", percent(scores.completeness), "Share of the nodes' inputs, weighted by influence, that come from features and tokens and not from errors."],
    ["Error share", percent(scores.error_share), "Influence on the logits that starts at errors, or at features whose inputs were not computed, over that of all leaves. " + `Layers without a coder ${percent(parts.no_coder)}, coder error ${percent(parts.coder_error)}, position 0 ${percent(parts.position_0)}, features not opened ${percent(parts.unselected)}.`],
    ["Selected", `${count(selection.selected)} of ${count(selection.active)}`, `Features active on the prompt whose incoming edges were computed; ${percent(selection.explained_share)} of the influence through active features runs through them.`],
    ["Conservation", conservation.nodes ? conservation.max_relative_to_edges.toExponential(1) : "not known", `Edges into a node must add up to its value. This is the largest miss over ${count(conservation.nodes)} nodes, relative to the sum of |edges| (${conservation.dtype}). Relative to the value, 99% of nodes miss by less than ${conservation.p99_relative_to_value.toExponential(1)}.`],
  ];
}

function measured(target: GraphSummary["targets"][number]): string {
  if (target.token_id < 0) return "along this direction";
  return target.minus ? `above the logit of ${token(target.minus)}` : "above the mean of the vocabulary";
}
