"""Roles of Postgres: what API, scheduler and workers may do, each under a name of its own.

The owner of the tables only migrates; `grant` gives the other three what they need, after each migration, and takes
what a former version needed. Who changes a table's use changes `GRANTS`: what is not in it, nobody may do.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

import psycopg
from psycopg import sql

from clew_lab.catalogue.engine import libpq_url
from clew_lab.settings import Settings

Role = Literal["api", "scheduler", "worker"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
_READ, _ADD, _KEEP, _ALL = "select", "select, insert", "select, insert, update", "select, insert, update, delete"
_SHOW = "select, update (visibility)"

GRANTS: Final[dict[str, dict[Role, str]]] = {
    "projects": {"api": _KEEP, "scheduler": _READ, "worker": _READ},
    "api_keys": {"api": _KEEP},
    "sessions": {"api": _ALL},
    "users": {"api": _KEEP},
    "memberships": {"api": _ALL},
    "sign_in_attempts": {"api": _ALL},
    "workers": {"api": "select, update", "scheduler": "select, update", "worker": _KEEP},
    "usage": {"api": _READ, "scheduler": _KEEP, "worker": _KEEP},
    "standings": {"api": _READ, "scheduler": _ALL},
    "queues": {"api": _READ, "scheduler": _KEEP},
    "batches": {"api": _ADD},
    "dependencies": {"api": _ADD, "scheduler": _READ},
    "jobs": {"api": _KEEP, "scheduler": "select, update", "worker": "select, update"},
    "attempts": {"api": _READ, "scheduler": "select, update", "worker": _KEEP},
    "events": {"api": _ADD, "scheduler": _ADD, "worker": _ADD},
    "metrics": {"api": _ADD, "worker": _KEEP},
    "artifacts": {"api": _READ, "scheduler": _READ, "worker": _ADD},
    "models": {"api": _SHOW, "scheduler": _READ, "worker": _ADD},
    "datasets": {"api": _SHOW, "scheduler": _READ, "worker": _ADD},
    "coders": {"api": _SHOW, "scheduler": _READ, "worker": _KEEP},
    "graphs": {"api": _SHOW, "scheduler": _READ, "worker": _ADD},
    "uploads": {"api": _KEEP, "scheduler": "select, delete", "worker": _READ},
    "upload_files": {"api": _KEEP, "scheduler": _READ, "worker": _READ},
    "secrets": {"api": _ALL, "worker": _READ},
    "audit": {"api": _ADD},
}
"""By table and role. What was done stays in `audit`: nobody may change or delete there."""


def name_of(role: Role) -> str:
    return f"clew_{role}"


def url_of(url: str, role: Role, password: str) -> str:
    """The owner's URL with the role in the owner's place. password: without characters that a URL would escape."""
    scheme, rest = url.split("://", 1)
    return f"{scheme}://{name_of(role)}:{password}@{rest.rpartition('@')[2]}"


def passwords_of(settings: Settings) -> dict[Role, str]:
    """Those that are set. A lab without any works under the owner's name alone."""
    given = {
        "api": settings.db_password_api,
        "scheduler": settings.db_password_scheduler,
        "worker": settings.db_password_worker,
    }
    return {role: secret.get_secret_value() for role in ROLES if (secret := given[role]) is not None}


def grant(url: str, passwords: Mapping[Role, str]) -> None:
    """Make these roles if they are not there, with these passwords and exactly the grants of `GRANTS`.

    In one transaction, so that processes at work notice nothing. url: of the owner, who must be allowed to make roles.
    """
    with psycopg.connect(libpq_url(url), connect_timeout=5) as connection:
        there = {row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")}
        for role, password in passwords.items():
            _make(connection, name_of(role), password)
            name = sql.Identifier(name_of(role))
            connection.execute(sql.SQL("revoke all on all tables in schema public from {}").format(name))
            for table, grants in GRANTS.items():
                if role in grants and table in there:
                    connection.execute(
                        sql.SQL("grant {} on {} to {}").format(
                            sql.SQL(grants[role]), sql.Identifier("public", table), name
                        )
                    )


def _make(connection: psycopg.Connection, name: str, password: str) -> None:
    """The password is hashed here: the server's log may show statements."""
    secret = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(
        sql.SQL(
            "do $do$ begin create role {0} noinherit; exception when duplicate_object or unique_violation then end $do$"
        ).format(sql.Identifier(name))
    )
    connection.execute(
        sql.SQL("alter role {} login nosuperuser nocreatedb nocreaterole password {}").format(
            sql.Identifier(name), sql.Literal(secret)
        )
    )
