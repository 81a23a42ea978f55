"""`clew login`, `clew health`, `clew shares` and `clew drain`: the lab itself."""

import platform
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text

from clew_client.commands.options import AsJson
from clew_client.credentials import Credentials, clean_key, clean_url, store
from clew_client.display import console, duration, note, number, print_json, say, since, table
from clew_client.lab import Lab
from clew_spec.api import Health, PoolView, ProjectShare, WorkerView
from clew_spec.errors import NotAuthenticated
from clew_spec.units import size

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def register(app: typer.Typer) -> None:
    app.command()(login)
    app.command()(health)
    app.command(rich_help_panel="To run a lab")(drain)
    app.command()(shares)


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the lab is.")],
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Sign in by password: a key is made, and stored.")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="With --user: another than your first.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="With --user: until that key expires.")] = 90,
) -> None:
    """Store the lab's URL and your API key, once the lab has accepted it. A key, or a password with --user, that is on
    stdin is read from there."""
    url = clean_url(url)
    if url.startswith("http://") and urlsplit(url).hostname not in LOOPBACK:
        note("Warning: http sends your key in the clear; use https where others share the network.")
    key = clean_key(_secret("API key")) if user is None else _key_by_password(url, user, project, days)
    with Lab(url, key) as lab:
        session = lab.session()
    path = store(Credentials(url, key))
    say(f"Key {session.key_name} of project {session.project} is stored in {path}.")


def _secret(prompt: str) -> str:
    typed: str = typer.prompt(prompt, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    return typed


def _key_by_password(url: str, user: str, project: str | None, days: int) -> str:
    """A fresh key of the person's own; the session that made it ends."""
    with Lab(url, key="") as lab:
        lab.people.sign_in(user, _secret("Password").rstrip("\n"), project)
        until = datetime.now(UTC) + timedelta(days=days)
        key = lab.people.create_key(f"clew login on {_host()}", expires_at=until)
        lab.people.sign_out()
    return key.key


def _host() -> str:
    return "".join(filter(str.isprintable, platform.node()))[:60] or "a computer"


def health(as_json: AsJson = False) -> None:
    """Say how the lab and its workers are; exit code 1 if a part of it is down."""
    with Lab() as lab:
        found = lab.health()
        if as_json:
            print_json(found)
        else:
            _print_health(lab, found)
    raise typer.Exit(0 if found.ok else 1)


def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="By its name, as `clew health` tells.")],
) -> None:
    """Have a worker take no more jobs: it gives back the one it has, by a checkpoint, and ends. Needs an admin key."""
    with Lab() as lab:
        lab.drain(worker)
    say(f"{worker} is asked to drain; its job waits again and continues on another worker.")


def shares(as_json: AsJson = False) -> None:
    """Say what each project may have of the workers, what it had and has, and what waits."""
    with Lab() as lab:
        found = lab.overview()
    if as_json:
        print_json(found)
        return
    console().print(_pools(found.pools))
    console().print(_projects(found.projects))


def _pools(pools: list[PoolView]) -> Table:
    return table(
        ["pool", "workers>", "busy>", "waiting>", "seen>"],
        [(pool.pool, number(pool.workers), number(pool.busy), number(pool.waiting), _seen(pool)) for pool in pools],
    )


def _seen(pool: PoolView) -> str:
    return f"{since(pool.at)} ago" if pool.at else "never"


def _projects(projects: list[ProjectShare]) -> Table:
    return table(
        ["project", "weight>", "share>", "used>", "of all>", "on workers>", "waiting>", "stored>"],
        [
            (
                each.project,
                number(each.weight),
                f"{each.share:.0%}",
                duration(each.used_s),
                f"{each.used_share:.0%}",
                _of(number(each.in_flight), None if each.max_in_flight is None else number(each.max_in_flight)),
                number(each.waiting),
                "" if each.stored_bytes is None else _of(size(each.stored_bytes), _size(each.max_stored_bytes)),
            )
            for each in projects
        ],
    )


def _of(value: str, most: str | None) -> str:
    return value if most is None else f"{value} of {most}"


def _size(value: int | None) -> str | None:
    return None if value is None else size(value)


def _print_health(lab: Lab, found: Health) -> None:
    say(Text.assemble(f"{lab.url}, version {found.version}: ", _mark(found.ok)))
    console().print(
        table(["", "", ""], [(name, _mark(part.ok), part.detail or "") for name, part in found.components.items()])
    )
    try:
        workers = lab.workers() if found.ok else []
    except NotAuthenticated as error:
        note(f"Workers are not shown: {error.detail}")
        return
    if workers:
        console().print(_workers(workers))
    elif found.ok:
        say("No workers: jobs will wait.")


def _workers(workers: list[WorkerView]) -> Table:
    return table(
        ["worker", "pool", "device", "memory>", "beat>", "doing"],
        [
            (
                worker.name,
                worker.pool,
                worker.device,
                size(worker.memory_bytes),
                f"{worker.beat_age_s:.0f} s ago",
                str(worker.job_id) if worker.job_id else "draining" if worker.draining else "free",
            )
            for worker in workers
        ],
    )


def _mark(ok: bool) -> Text:
    return Text("ok", style="green") if ok else Text("down", style="bold red")
