import { Card } from "../../../components/Card";
import type { SteerResult } from "../../../graph/steering";
import { SteerOutcome } from "../../../graph/SteerOutcome";
import { Agreements } from "./Agreements";
import { Part } from "./Part";
import classes from "./results.module.css";

/** What the model makes of a prompt with features changed, beside what a graph predicted. */
export function Steering({ result }: { result: SteerResult }) {
  return (
    <Card title="Steering" aside={result.frozen ? "attention patterns, norm scales and MLPs held" : "in the model as it runs"} flush>
      <div className={classes.lead}>
        <p>{result.prompt}</p>
        <SteerOutcome result={result} nameOf={({ layer, feature }) => `L${layer}/F${feature}`} />
      </div>
      {result.prediction && (
        <Part title="What the graph predicted">
          <Agreements label="Prediction" of={{ "logits and features": result.prediction.agreement, "logits alone": result.prediction.logits }} />
        </Part>
      )}
    </Card>
  );
}
