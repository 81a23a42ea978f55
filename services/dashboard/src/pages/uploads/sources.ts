/** What a dataset's `source` is of files with these names: the first that says. */
export function sourceKind(names: readonly string[]): "text" | "jsonl" | "parquet" {
  for (const name of names) {
    const [, ending] = /\.(txt|jsonl|json|parquet)(?:\.(?:gz|zst))?$/i.exec(name) ?? [];
    if (ending) return /^parquet$/i.test(ending) ? "parquet" : /^json/i.test(ending) ? "jsonl" : "text";
  }
  return "text";
}
