import { Button, Popover } from "@mantine/core";
import { useState, type ReactNode } from "react";

interface Props {
  /** What the button says. */
  action: string;
  /** What it is done to, where there are several buttons of the same words. */
  about?: string;
  children: ReactNode;
  onConfirm: () => void;
  pending?: boolean;
  disabled?: boolean;
}

/** A button that says what will happen before it does it. */
export function Confirm({ action, about, children, onConfirm, pending = false, disabled = false }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <Popover opened={open} onChange={setOpen} position="bottom-end" width={280} shadow="md" trapFocus withRoles={false}>
      <Popover.Target>
        <Button variant="default" size="compact-sm" loading={pending} disabled={disabled} aria-expanded={open} aria-label={about && `${action} ${about}`} onClick={() => setOpen(!open)}>
          {action}
        </Button>
      </Popover.Target>
      <Popover.Dropdown role="dialog" aria-label={about ? `${action} ${about}` : action}>
        <div style={{ margin: "0 0 10px" }}>{children}</div>
        <Button
          size="xs"
          onClick={() => {
            setOpen(false);
            onConfirm();
          }}
        >
          Yes, {action.toLowerCase()}
        </Button>{" "}
        <Button size="xs" variant="default" onClick={() => setOpen(false)}>
          No
        </Button>
      </Popover.Dropdown>
    </Popover>
  );
}
