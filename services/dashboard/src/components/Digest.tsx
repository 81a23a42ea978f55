/** The beginning of a sha256, the whole on hover. */
export function Digest({ value }: { value: string }) {
  return (
    <span className="mono dim" title={value}>
      {value.slice(0, 12)}
    </span>
  );
}
