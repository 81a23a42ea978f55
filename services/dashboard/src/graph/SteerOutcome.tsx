import { decimal, percent, token } from "../format";
import classes from "./SteerOutcome.module.css";
import type { Site, SteerResult } from "./steering";

interface Props {
  result: SteerResult;
  nameOf: (site: Site) => string;
}

/** The text and the likeliest next tokens without the edits and with them. */
export function SteerOutcome({ result, nameOf }: Props) {
  return (
    <div className={classes.outcome}>
      {result.text_before !== null && result.text_after !== null && (
        <dl className={classes.texts}>
          <dt>before</dt>
          <dd>{result.text_before}</dd>
          <dt>after</dt>
          <dd>{result.text_after}</dd>
        </dl>
      )}
      <BeforeAfter
        title="next token"
        rows={result.next_tokens.map((next) => [<span key={next.token_id} className="mono">{token(next.token)}</span>, percent(next.before), percent(next.after)])}
      />
      <p className="dim">KL {decimal(result.kl)} nats</p>
      <BeforeAfter
        title="activation"
        rows={result.activations.map((edited) => [
          <span key={edited.position}>
            {nameOf(edited)} <small className="mono dim">{token(result.tokens[edited.position] ?? "")}</small>
          </span>,
          decimal(edited.before, 2),
          decimal(edited.after, 2),
        ])}
      />
    </div>
  );
}

function BeforeAfter({ title, rows }: { title: string; rows: [React.ReactNode, string, string][] }) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{title}</th>
          <th scope="col">before</th>
          <th scope="col">after</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, before, after], i) => (
          <tr key={i}>
            <td>{name}</td>
            <td>{before}</td>
            <td>{after}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
