import { Card, Facts } from "../../../components/Card";
import { count, decimal, percent, token } from "../../../format";
import type { Agreement } from "../../../graph/steering";
import { Agreements } from "./Agreements";
import { Curves, type CurvePoint } from "./Curves";
import { Part } from "./Part";
import classes from "./results.module.css";

export interface FaithfulnessResult {
  kind: "faithfulness";
  name: string;
  faithfulness: {
    checks: { edges: number; median: number; largest: number };
    steering: { features: number; logits: Agreement; nodes: Agreement; control_logits: Agreement; control_nodes: Agreement };
    influence: { features: number; spearman: number | null };
    curves: { ablation: "zero" | "mean"; whole: number; empty: number; points: CurvePoint[]; cpr: number | null; cmd: number | null };
    stability: { prompts: string[]; next_tokens: string[]; features: number; jaccard: number[]; mean_jaccard: number } | null;
  };
}

/** A stored graph tried out on its model. */
export function Faithfulness({ result: { name, faithfulness: found } }: { result: FaithfulnessResult }) {
  const { checks, steering, influence, curves, stability } = found;
  return (
    <Card title={`How faithful ${name} is`} flush>
      <div className={classes.lead}>
        <Facts
          rows={[
            ["edges under the freeze", `${count(checks.edges)} measured; |measured − edge| / |edge|: median ${decimal(checks.median)}, largest ${decimal(checks.largest)}`],
            ["influence", `Spearman ${decimal(influence.spearman)} with what ablating each of ${count(influence.features)} features does to the logits`],
          ]}
        />
      </div>
      <Part title="Ablations that edges foretell" aside={`${count(steering.features)} features, one at a time; beside them random directions of the same norm`}>
        <Agreements
          label="Ablations"
          of={{
            "the logits": steering.logits,
            "the logits, random direction": steering.control_logits,
            "logits and features": steering.nodes,
            "logits and features, random direction": steering.control_nodes,
          }}
        />
      </Part>
      <Part title="Circuits of the most influential features" aside={`CPR ${decimal(curves.cpr)}, CMD ${decimal(curves.cmd)}; ablated to ${curves.ablation === "zero" ? "nothing" : "their mean"}`}>
        <Curves whole={curves.whole} empty={curves.empty} points={curves.points} />
      </Part>
      {stability && (
        <Part title="Paraphrases" aside={`the ${count(stability.features)} most influential features of each; mean Jaccard ${decimal(stability.mean_jaccard)}`}>
          <div className={classes.lead}>
            <Facts
              rows={stability.prompts.map((prompt, i) => [
                i === 0 ? "the graph's" : percent(stability.jaccard[i - 1]),
                <span key={i}>
                  {prompt} <span className="mono dim">{token(stability.next_tokens[i] ?? "")}</span>
                </span>,
              ])}
            />
          </div>
        </Part>
      )}
    </Card>
  );
}
