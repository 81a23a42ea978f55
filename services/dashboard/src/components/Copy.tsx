import { Button, CopyButton, type ButtonProps } from "@mantine/core";

/** A button that copies a text, and says that it has. */
export function Copy({ text, variant = "subtle" }: { text: string; variant?: ButtonProps["variant"] }) {
  return (
    <CopyButton value={text}>
      {({ copied, copy }) => (
        <Button variant={variant} size="compact-xs" onClick={copy} disabled={!text}>
          {copied ? "Copied" : "Copy"}
        </Button>
      )}
    </CopyButton>
  );
}
