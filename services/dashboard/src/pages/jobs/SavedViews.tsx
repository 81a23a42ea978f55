import { ActionIcon, Button, Popover, TextInput } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { Close } from "../../components/icons";
import classes from "../Jobs.module.css";

export interface JobSearch {
  state?: string;
  kind?: string;
  user?: string;
  batch?: string;
}

interface SavedView extends JobSearch {
  name: string;
}

const FILTERS = ["state", "kind", "user", "batch"] as const satisfies readonly (keyof JobSearch)[];
const KEY = "clew.job-views";

function filter({ state, kind, user, batch }: JobSearch): JobSearch {
  return { state, kind, user, batch };
}

/** Filters under a name of the reader's own, kept in this browser. */
export function SavedViews({ search }: { search: JobSearch }) {
  const [views, setViews] = useLocalStorage<SavedView[]>({ key: KEY, defaultValue: [], getInitialValueInEffect: false });
  const [open, setOpen] = useState(false);
  const [name, setName] = useState("");
  const filtered = FILTERS.some((key) => search[key] !== undefined);
  const trimmed = name.trim();
  const save = () => {
    setViews([...views.filter((view) => view.name !== trimmed), { name: trimmed, ...filter(search) }]);
    setName("");
    setOpen(false);
  };
  return (
    <div className={classes.group} role="group" aria-label="Saved views">
      {views.map(({ name: title, ...view }) => (
        <span key={title} className={classes.view} data-shown={FILTERS.every((key) => view[key] === search[key]) || undefined}>
          <Link to="/" search={filter(view)}>
            {title}
          </Link>
          <ActionIcon size="xs" variant="transparent" color="gray" aria-label={`Forget ${title}`} onClick={() => setViews(views.filter((view) => view.name !== title))}>
            <Close />
          </ActionIcon>
        </span>
      ))}
      {filtered && (
        <Popover opened={open} onChange={setOpen} position="bottom-start" shadow="md" trapFocus withRoles={false}>
          <Popover.Target>
            <Button variant="subtle" size="compact-xs" aria-expanded={open} onClick={() => setOpen(!open)}>
              Save this view
            </Button>
          </Popover.Target>
          <Popover.Dropdown role="dialog" aria-label="Save this view">
            <form
              className={classes.group}
              onSubmit={(event) => {
                event.preventDefault();
                save();
              }}
            >
              <TextInput size="xs" aria-label="Name of the view" placeholder="Name" maxLength={40} value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
              <Button type="submit" size="xs" disabled={trimmed === ""}>
                Save
              </Button>
            </form>
          </Popover.Dropdown>
        </Popover>
      )}
    </div>
  );
}
