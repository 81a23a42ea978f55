"""`clew upload`, `uploads`, `artifacts`, `download` and `secret`: data in and out."""

import re
import sys
import time
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from clew_client.commands.options import AsJson, JobId, Limit, Named, find_job
from clew_client.display import Bar, duration, note, print_json, print_table, say, since
from clew_client.lab import Lab
from clew_client.watching import INTERRUPTED
from clew_spec.data_views import UploadView
from clew_spec.errors import InvalidSpec, NotFound
from clew_spec.secrets import SecretName
from clew_spec.units import size

PHASES = {"hash": "reading", "send": "sending", "fetch": "fetching"}
SHORTEST = 6
UploadRef = Annotated[
    str, typer.Argument(metavar="UPLOAD", help="Its name, or the first 6 or more characters of its id.")
]
Secret = Annotated[SecretName, typer.Argument(metavar="NAME", help="HF_TOKEN opens gated models and datasets.")]


def register(app: typer.Typer) -> None:
    app.command()(upload)
    uploads = typer.Typer(no_args_is_help=True)
    uploads.command("list")(list_uploads)
    uploads.command()(remove)
    app.add_typer(uploads, name="uploads", help="Files that were uploaded, or are on their way.")
    app.command()(artifacts)
    app.command()(download)
    secrets = typer.Typer(no_args_is_help=True)
    secrets.command("list")(list_secrets)
    secrets.command("set")(set_secret)
    secrets.command("delete")(delete_secret)
    app.add_typer(secrets, name="secret", help="Secrets of the project, which only runners of its jobs are given.")


def upload(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, or a folder of files.")],
    name: Annotated[str | None, typer.Option("--name", help="To find it by; made of the path's own, if none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a file or a folder to the lab. Interrupted, it goes on where it stopped when run again."""
    try:
        with Lab() as lab, Moving() as bar:
            found = lab.uploads.send(path, name, bar.tell)
    except KeyboardInterrupt:
        note("What was sent is kept for a week: run the same again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(found)
    else:
        say(f"{found.files} files, {size(found.size)}: upload:{found.name}")
        note(
            f"A job reads them by `--path upload:{found.name}`, or `--source.path`; until {found.expires_at:%Y-%m-%d}."
        )


def list_uploads(name: Named = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List uploads, newest first."""
    with Lab() as lab:
        found = list(lab.uploads.list(name=name, limit=limit))
    rows = [
        (
            str(one.id),
            one.name,
            one.state,
            str(one.files),
            size(one.size),
            one.user or "",
            since(one.created_at),
            f"{one.expires_at:%Y-%m-%d}",
        )
        for one in found
    ]
    print_table(found, ["id", "name", "state", "files>", "size>", "of", "age>", "until"], rows, as_json=as_json)


def remove(ref: UploadRef) -> None:
    """Delete an upload. What jobs made of it stays."""
    with Lab() as lab:
        found = _find(lab, ref)
        lab.uploads.remove(found.id)
    say(f"Upload {found.name} ({found.id}) is removed.")


def artifacts(job_id: JobId, as_json: AsJson = False) -> None:
    """List a job's files."""
    with Lab() as lab:
        found = lab.artifacts(find_job(lab, job_id))
    rows = [(one.name, size(one.size), one.sha256[:12], one.media_type) for one in found]
    print_table(found, ["name", "size>", "sha256", "media type"], rows, as_json=as_json)


def download(
    job_id: JobId,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Files, or folders of them; all, if none.")
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Below which they keep their own folders.")
    ] = Path(),
) -> None:
    """Fetch a job's files, and print where they lie. Those that are there are kept; another file is never replaced."""
    try:
        with Lab() as lab, Moving() as bar:
            found = lab.job(find_job(lab, job_id)).download(to, names or [], bar.tell)
    except KeyboardInterrupt:
        note("Files that are whole are kept: run the same again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    for path in found:
        say(str(path))


def list_secrets(as_json: AsJson = False) -> None:
    """List the names of secrets that are set."""
    with Lab() as lab:
        found = lab.secrets.list()
    rows = [(one.name, one.user or "", since(one.set_at) + " ago") for one in found]
    print_table(found, ["name", "set by", "when"], rows, as_json=as_json)


def set_secret(name: Secret) -> None:
    """Store a secret: asked for, or read as a line of stdin. It is never shown again."""
    value = typer.prompt(name, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    with Lab() as lab:
        lab.secrets.set(name, value)
    say(f"{name} is set.")


def delete_secret(name: Secret) -> None:
    """Delete a secret."""
    with Lab() as lab:
        lab.secrets.delete(name)
    say(f"{name} is deleted.")


class Moving(Bar):
    """How far an upload or a download is, how fast and how much longer; nothing where there is no terminal."""

    def __init__(self) -> None:
        super().__init__("")
        self._phase = ""
        self._began = (0.0, 0)

    def tell(self, phase: str, done: int, total: int, sent: int) -> None:
        """As `clew_client.uploads.OnProgress`."""
        own = done if phase == "hash" else sent
        if phase != self._phase:
            self._phase, self._began = phase, (time.monotonic(), own)
        began, before = self._began
        self.update(
            self.bar,
            description=PHASES[phase],
            completed=done,
            total=total,
            line=progress_line(done, total, own - before, time.monotonic() - began),
        )


def progress_line(done: int, total: int, moved: int, seconds: float) -> str:
    """`1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6 s left`; rate and rest once they can be told."""
    line = f"{size(done)} of {size(total)}"
    if moved <= 0 or seconds <= 0:
        return line
    rate = moved / seconds
    return f"{line}, {size(rate)}/s, {duration((total - done) / rate)} left"


def _find(lab: Lab, ref: str) -> UploadView:
    digits = ref.lower().replace("-", "")
    by_id = re.fullmatch(rf"[0-9a-f]{{{SHORTEST},32}}", digits) is not None
    if by_id and len(digits) == 32:
        return lab.uploads.get(UUID(digits))
    found = list(lab.uploads.list())
    chosen = [one for one in found if one.name == ref] or [
        one for one in found if by_id and one.id.hex.startswith(digits)
    ]
    if not chosen:
        raise NotFound(f"there is no upload {ref}", hint="`clew uploads list` lists them")
    if len(chosen) > 1:
        raise InvalidSpec(f"{len(chosen)} uploads are called {ref}", expected="the id of one of them")
    return chosen[0]
