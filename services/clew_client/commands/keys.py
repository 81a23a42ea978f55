"""`clew keys`: API keys of the project."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from clew_client.commands.options import AsJson, Limit
from clew_client.credentials import Credentials, load, store
from clew_client.display import note, print_json, print_table, say, since
from clew_client.lab import Lab
from clew_spec.api import KeyView, NewKeyView
from clew_spec.errors import InvalidSpec, NotFound
from clew_spec.people import Permission

KeyRef = Annotated[str, typer.Argument(metavar="KEY", help="Its name, or the first 6 or more characters of its id.")]
Scopes = Annotated[
    list[Permission] | None,
    typer.Option("--scope", help="What it may do, such as job:submit; may be given again. All you may, if none."),
]
Days = Annotated[int | None, typer.Option("--days", min=1, max=3650, help="Until it expires; never, if none.")]
Service = Annotated[bool, typer.Option("--service", help="The project's own, and no person's; needs scopes.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list")(list_keys)
    for command in (create, rotate, revoke):
        group.command()(command)
    app.add_typer(group, name="keys", help="API keys: yours, and the project's own.")


def list_keys(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List keys, newest first."""
    with Lab() as lab:
        found = list(lab.people.api_keys(limit=limit))
    rows = [
        (
            str(key.id),
            key.name,
            f"...{key.hint}",
            key.user or "the project",
            "all of its owner's" if key.scopes is None else ", ".join(key.scopes),
            _state(key),
            since(key.last_used_at) + " ago" if key.last_used_at else "never",
        )
        for key in found
    ]
    print_table(found, ["id", "name", "ends in", "of", "may", "state", "used"], rows, as_json=as_json)


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="To know it by.")],
    scope: Scopes = None,
    days: Days = None,
    service: Service = False,
    as_json: AsJson = False,
) -> None:
    """Make a key for this project, and print it, this once."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with Lab() as lab:
        key = lab.people.create_key(name, scopes=scope, expires_at=expires_at, service=service)
    _show(key, as_json)


def rotate(ref: KeyRef, as_json: AsJson = False) -> None:
    """Give a key a new secret, and print it, this once; the old one ends. Your stored key is stored anew."""
    with Lab() as lab:
        stored, own = load(), lab.session().key_id
        key = lab.people.rotate_key(_find(lab, ref).id)
        if key.id == own and stored is not None and stored.url == lab.url:
            note(f"It is stored in {store(Credentials(lab.url, key.key))}.")
    _show(key, as_json)


def revoke(ref: KeyRef) -> None:
    """End a key for good."""
    with Lab() as lab:
        key = _find(lab, ref)
        lab.people.revoke_key(key.id)
    say(f"Key {key.name} is revoked.")


def _find(lab: Lab, ref: str) -> KeyView:
    digits = ref.lower().replace("-", "")
    by_id = re.fullmatch(r"[0-9a-f]{6,32}", digits) is not None
    keys = [key for key in lab.people.api_keys() if key.revoked_at is None]
    named = [key for key in keys if key.name == ref]
    found = named or [key for key in keys if by_id and key.id.hex.startswith(digits)]
    if not found:
        raise NotFound(f"there is no key {ref}", hint="`clew keys list` lists them")
    if len(found) > 1:
        raise InvalidSpec(f"{len(found)} keys are called {ref}", expected="the id of one of them")
    return found[0]


def _show(key: NewKeyView, as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        note(f"Key {key.name} ({key.id}); it is shown this once:")
        say(key.key)


def _state(key: KeyView) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if not key.live:
        return "ended"
    return f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "good"
