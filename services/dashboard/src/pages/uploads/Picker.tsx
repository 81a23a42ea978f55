import { Button, TextInput } from "@mantine/core";
import { useRef, useState, type DragEvent } from "react";

import { problemOf } from "../../api/problem";
import { Card } from "../../components/Card";
import { bytes, count } from "../../format";
import { nameOf, ofDrop, ofInput, sizeOf, type Choice, type Picked } from "../../uploads/files";
import { outbox } from "../../uploads/outbox";
import classes from "./uploads.module.css";

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
/** Of an upload, as the API has it. */
const MAX_FILES = 1000;

/** Where files are chosen or dropped, named, and sent. */
export function Picker({ onSent }: { onSent: () => void }) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const [picked, setPicked] = useState<Picked[]>([]);
  const [name, setName] = useState("");
  const [over, setOver] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const pick = ({ title, files: found }: Choice) => {
    const tooMany = found.length > MAX_FILES;
    setWrong(found.length === 0 ? "There is no file in it, or hidden ones alone." : tooMany ? `An upload takes ${count(MAX_FILES)} files; these are ${count(found.length)}.` : null);
    setPicked(tooMany ? [] : found);
    setName(nameOf(title));
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    ofDrop(event.dataTransfer.items).then(pick, (error: unknown) => setWrong(problemOf(error).detail));
  };
  const clear = () => {
    setPicked([]);
    setWrong(null);
    for (const input of [files.current, folder.current]) if (input) input.value = "";
  };
  const badName = name !== "" && !NAME.test(name);
  return (
    <Card title="Bring files">
      <div
        className={classes.drop}
        data-over={over || undefined}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <input ref={files} type="file" multiple hidden aria-label="Files" onChange={(event) => pick(ofInput(event.currentTarget.files ?? []))} />
        <input
          ref={(input) => {
            folder.current = input;
            input?.setAttribute("webkitdirectory", "");
          }}
          type="file"
          hidden
          aria-label="Folder"
          onChange={(event) => pick(ofInput(event.currentTarget.files ?? []))}
        />
        <Button size="compact-sm" variant="default" onClick={() => files.current?.click()}>
          Choose files
        </Button>
        <Button size="compact-sm" variant="default" onClick={() => folder.current?.click()}>
          Choose a folder
        </Button>
        <span className="dim">or drop them here. They go straight to the object store; the same files again go on where they stopped.</span>
      </div>
      {wrong && (
        <p className={classes.wrong} role="alert">
          {wrong}
        </p>
      )}
      {picked.length > 0 && (
        <form
          className={classes.named}
          onSubmit={(event) => {
            event.preventDefault();
            void outbox.add(name, picked).then(onSent);
            clear();
          }}
        >
          <TextInput
            size="xs"
            label="Name"
            description="Jobs find it by this"
            required
            value={name}
            error={badName && "Lower-case letters, digits, `.`, `_`, `-`; 63 at most"}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <Button type="submit" size="xs" disabled={name === "" || badName}>
            Upload {picked.length === 1 ? (picked[0]?.name ?? "") : `${count(picked.length)} files`}, {bytes(sizeOf(picked))}
          </Button>
          <Button size="xs" variant="subtle" onClick={clear}>
            Not these
          </Button>
        </form>
      )}
    </Card>
  );
}
