/** Files as a reader picks or drops them, under the names that the upload gives them. */

export interface Picked {
  /** Relative, with `/` between the folders. */
  name: string;
  file: File;
}

export interface Choice {
  /** What they are called together: the folder, or the first file. */
  title: string;
  files: Picked[];
}

/** Of a form's own input: a folder's files are named from the folder on, hidden ones are left out. */
export function ofInput(files: Iterable<File>): Choice {
  const all = [...files];
  const [first] = all;
  return {
    title: first?.webkitRelativePath.split("/")[0] || (first?.name ?? ""),
    files: visible(all.map((file) => ({ name: file.webkitRelativePath.split("/").slice(1).join("/") || file.name, file }))),
  };
}

/** Of what was dropped on the page: files, and folders with what lies in them. */
export async function ofDrop(items: DataTransferItemList): Promise<Choice> {
  // Read at once: the list is empty when the handler of the event has returned.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const [first] = entries;
  const found = (await Promise.all(entries.map((entry) => inside(entry, "")))).flat();
  // As in an input, a folder alone is not part of its files' names.
  const outer = entries.length === 1 && first?.isDirectory ? first.name.length + 1 : 0;
  return { title: first?.name ?? "", files: visible(found.map(({ name, file }) => ({ name: name.slice(outer), file }))) };
}

/** `Notes 2026.jsonl.gz` as `notes-2026`, as the command line names it. */
export function nameOf(title: string): string {
  const stem = title.replace(/(\.(txt|jsonl|json|parquet|gguf|safetensors|pt|npz|gz|zst))+$/i, "").toLowerCase();
  const name = stem.replace(/[^a-z0-9._-]+/g, "-").replace(/^[._-]+|[._-]+$/g, "");
  return name.slice(0, 63) || "upload";
}

export function sizeOf(picked: readonly Picked[]): number {
  return picked.reduce((sum, { file }) => sum + file.size, 0);
}

function visible(picked: Picked[]): Picked[] {
  return picked
    .filter(({ name }) => !name.split("/").some((part) => part.startsWith(".")))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function inside(entry: FileSystemEntry, folder: string): Promise<Picked[]> {
  const name = folder + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((done, failed) => (entry as FileSystemFileEntry).file(done, failed));
    return [{ name, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Picked[] = [];
  for (;;) {
    // It tells some of a folder at a time, and nothing when it has told all.
    const some = await new Promise<FileSystemEntry[]>((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) return found;
    found.push(...(await Promise.all(some.map((each) => inside(each, `${name}/`)))).flat());
  }
}
