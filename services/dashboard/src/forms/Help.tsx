import classes from "./forms.module.css";

/** A description out of the specs: what stands between backticks is code. */
export function Help({ text, more }: { text: string; more?: string }) {
  const said = [text.replaceAll(/\s+/g, " ").trim(), more && `${capital(more)}.`].filter(Boolean).join(" ");
  if (!said) return null;
  return <span className={classes.help}>{said.split("`").map((part, i) => (i % 2 ? <code key={i}>{part}</code> : part))}</span>;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
