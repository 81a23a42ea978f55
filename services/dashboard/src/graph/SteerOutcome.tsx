import { decimal, percent, token } from "../format";
import type { Graph } from "./model";
import classes from "./panel.module.css";
import { siteName, type SteerResult } from "./steering";

/** The text and the likeliest next tokens without the edits and with them. */
export function SteerOutcome({ graph, result }: { graph: Graph; result: SteerResult }) {
  return (
    <>
      {result.text_before !== null && result.text_after !== null && (
        <dl className={classes.texts}>
          <dt>before</dt>
          <dd>{result.text_before}</dd>
          <dt>after</dt>
          <dd>{result.text_after}</dd>
        </dl>
      )}
      <table aria-label="Next tokens">
        <thead>
          <tr>
            <th scope="col">next token</th>
            <th scope="col">before</th>
            <th scope="col">after</th>
          </tr>
        </thead>
        <tbody>
          {result.next_tokens.map((next) => (
            <tr key={next.token_id}>
              <td className="mono">{token(next.token)}</td>
              <td>{percent(next.before)}</td>
              <td>{percent(next.after)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="dim">KL {decimal(result.kl)} nats</p>
      <table aria-label="Edited activations">
        <thead>
          <tr>
            <th scope="col">activation at</th>
            <th scope="col">before</th>
            <th scope="col">after</th>
          </tr>
        </thead>
        <tbody>
          {result.activations.map((edited) => (
            <tr key={`${edited.layer}/${edited.feature}@${edited.position}`}>
              <td>
                {siteName(graph, edited)} <small className="mono dim">{token(graph.document.summary.tokens[edited.position] ?? "")}</small>
              </td>
              <td>{decimal(edited.before, 2)}</td>
              <td>{decimal(edited.after, 2)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
