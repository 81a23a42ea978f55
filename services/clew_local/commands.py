"""`clew up`, `down`, `status`, `backup` and `restore`. Nothing heavy is imported before a command runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clew_spec.errors import ClewError, Unavailable

if TYPE_CHECKING:
    from clew_local.state import LabState

STOP_SECONDS = 40.0
"""For what a lab stops after its workers, which have the time they need: 120 s altogether where nothing else is set."""
_Data = Annotated[
    Path | None, typer.Option("--data", help="The lab's data folder.  [default: $CLEW_DATA_DIR or ~/.local/share/clew]")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this package (entry-point group `clew.commands`)."""
    app.command(rich_help_panel="A lab on this machine")(up)
    app.command(rich_help_panel="A lab on this machine")(down)
    app.command(rich_help_panel="A lab on this machine")(status)
    app.command(rich_help_panel="To run a lab")(backup)
    app.command(rich_help_panel="To run a lab")(restore)


def up(
    data: _Data = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; chosen once and kept otherwise.")] = None,
    device: Annotated[str, typer.Option(help="Where both workers compute: cpu, cuda or cuda:1.")] = "cpu",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as all of it is healthy.")] = False,
    as_json: _Json = False,
) -> None:
    """Start the whole lab on this machine and keep it running until Ctrl-C."""
    with _errors(as_json):
        folder = _folder(data)
        running = _running(folder)
        if running is not None and running.state == "running":
            _announce(folder, running.url or "", key_is_new=False, as_json=as_json, already=True)
        elif detach:
            state = _start_detached(folder, port, device)
            _announce(folder, state.url or "", key_is_new=state.key_is_new, as_json=as_json)
        else:
            _run(folder, port, device, as_json)


def down(data: _Data = None, as_json: _Json = False) -> None:
    """Stop the lab on this machine; its data stay."""
    with _errors(as_json):
        from clew_local.servers.process import end_leftovers, find, is_running
        from clew_local.state import load

        folder = _folder(data)
        state = _running(folder)
        process = find({"pid": state.pid, "created": state.created}) if state else None
        if process is not None:
            process.terminate()
            deadline = time.monotonic() + (state.drain_s if state else 0) + STOP_SECONDS
            said = None
            while is_running(process):
                if time.monotonic() > deadline:
                    process.kill()
                now = load(folder)
                if now is not None and now.draining not in (None, said):
                    said = now.draining
                    typer.echo(said, err=True)
                time.sleep(0.05)
        end_leftovers(folder)
        if as_json:
            typer.echo(json.dumps({"data": str(folder), "was_running": process is not None}))
        else:
            typer.echo(f"stopped {folder}" if process else f"nothing was running in {folder}")


def status(data: _Data = None, as_json: _Json = False) -> None:
    """Show each part of the lab on this machine. Exit code 0 where all of it is well, 1 otherwise."""
    with _errors(as_json):
        from clew_local.report import print_report, report

        found = report(_folder(data))
        if as_json:
            typer.echo(json.dumps(found.as_dict(), indent=2))
        else:
            print_report(found)
    if not found.ok:
        raise typer.Exit(1)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; it must not be there yet.")],
    data: _Data = None,
    as_json: _Json = False,
) -> None:
    """Write all that the lab on this machine has to a new folder: records, files, and the secret key. It may run."""
    with _errors(as_json):
        from clew_local import backup as backups

        lab = _folder(data)
        _told(backups.backup(lab, folder, running=_running(lab) is not None), f"backed up {lab}", as_json)


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `clew backup` wrote.")],
    data: _Data = None,
    as_json: _Json = False,
) -> None:
    """Make an empty lab what a backup says; every file is held against its sha256. Start it by `clew up` afterwards."""
    with _errors(as_json):
        from clew_local import backup as backups

        lab = _folder(data)
        answer = backups.restore(lab, folder, running=_running(lab) is not None)
        _told(answer, f"restored into {lab}", as_json)
        if not answer["keys_are_good"]:
            typer.echo("API keys of the backup are not good here: CLEW_SECRET_KEY is another.", err=True)


def _told(answer: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{what}: {answer['rows']} rows, {answer['objects']} objects, {answer['bytes']} bytes")
    if answer["lost_checkpoints"]:
        typer.echo(f"{len(answer['lost_checkpoints'])} running jobs begin anew when restored.", err=True)


def supervise(folder: Path, port: int | None, device: str) -> None:
    """The body of a detached lab: the same as `up`, but it prints no key."""
    from clew_local.lab import Lab

    Lab(folder, port=port, device=device, say=_stamped).run(lambda _: _stamped("running"))


def _run(folder: Path, port: int | None, device: str, as_json: bool) -> None:
    from clew_local.lab import Lab

    # With --json, standard output is one object.
    lab = Lab(folder, port=port, device=device, say=lambda line: typer.echo(line, err=as_json))
    lab.run(lambda key_is_new: _announce(folder, lab.url, key_is_new=key_is_new, as_json=as_json))


def _start_detached(folder: Path, port: int | None, device: str) -> "LabState":
    """Start the supervising process in a session of its own and wait for what it says of itself."""
    from clew_local.files import bound_log
    from clew_local.servers.stack import make_folder

    make_folder(folder)
    log = folder / "logs" / "lab.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    options = ["--device", device, *(["--port", str(port)] if port else [])]
    command = [sys.executable, "-m", "clew_local", str(folder), *options]
    bound_log(log)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    waiting = _patience(folder, process)
    state = next((state for state in waiting if state.state == "running"), None)
    if state is None:
        words = log.read_text(errors="replace").splitlines()
        raise Unavailable("the lab did not start:\n" + "\n".join(words[-15:]), hint=f"the whole log is {log}")
    return state


def _patience(folder: Path, process: "subprocess.Popen[bytes]") -> Iterator["LabState"]:
    """The states that `process` reports, until it ends."""
    from clew_local.state import load

    while process.poll() is None:
        state = load(folder)
        if state is not None and state.pid == process.pid:
            yield state
        time.sleep(0.1)


def _announce(folder: Path, url: str, *, key_is_new: bool, as_json: bool, already: bool = False) -> None:
    from clew_local import credentials

    key = credentials.stored_key(folder)
    if as_json:
        answer = {"url": url, "data": str(folder), "key": key if key_is_new else None, "already_running": already}
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"\n  Clew {'is already' if already else 'is'} running at {url}")
    if key_is_new:
        typer.echo(f"  Admin key (shown this once; kept in {credentials.own_path(folder)}):\n\n    {key}\n")
    if key and credentials.belongs_to_another(key):
        typer.echo(
            f"  {credentials.client_path()} holds the key of another lab and was left alone.\n"
            f"  For this one: export CLEW_CONFIG={credentials.own_path(folder)}"
        )
    typer.echo(f"  Data and logs: {folder}\n")


def _running(folder: Path) -> "LabState | None":
    """The state of the lab in `folder` if its supervising process runs."""
    from clew_local.state import load

    state = load(folder)
    return state if state is not None and state.alive else None


def _folder(data: Path | None) -> Path:
    if os.name != "posix":
        raise Unavailable(
            "`clew up` runs on Linux and macOS",
            hint="use WSL, or `docker compose up`, or `clew login URL` for a lab elsewhere",
        )
    from clew_local.services import default_data

    return (data or default_data()).expanduser().absolute()


def _stamped(line: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), line, flush=True)


@contextmanager
def _errors(as_json: bool) -> Iterator[None]:
    try:
        yield
    except ClewError as error:
        text = error.problem().model_dump_json(exclude_none=True) if as_json else f"clew: {error}"
        typer.echo(text, err=True)
        raise typer.Exit(1) from error
