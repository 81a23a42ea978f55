"""Bring a database to the schema of this version: `python -m clew_lab.catalogue.migrate upgrade|downgrade|current`.

An upgrade also gives the roles of `clew_lab.catalogue.roles` what they need, where their passwords are set.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from clew_lab.catalogue import roles
from clew_lab.catalogue.engine import make_engine
from clew_lab.settings import settings

_LOCK = 0x636C6577
"""Key of the advisory lock that lets one starter migrate while the others wait."""


def upgrade(url: str, revision: str = "head") -> None:
    """Apply what is missing, in one transaction. Safe to call from several processes at once."""
    with _locked(url) as config:
        command.upgrade(config, revision)


def downgrade(url: str, revision: str) -> None:
    with _locked(url) as config:
        command.downgrade(config, revision)


def current(url: str) -> str | None:
    """The revision the database is at; None before the first."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


@contextmanager
def _locked(url: str) -> Iterator[Config]:
    engine = make_engine(url, statement_s=600)
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield config(connection)
    finally:
        engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clew_lab.catalogue.migrate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("upgrade").add_argument("revision", nargs="?", default="head")
    commands.add_parser("downgrade").add_argument("revision", help="`base`, `-1` or a revision")
    commands.add_parser("current")
    arguments = parser.parse_args()
    url = settings().database_url.get_secret_value()
    if arguments.command == "upgrade":
        upgrade(url, arguments.revision)
        roles.grant(url, roles.passwords_of(settings()))
    elif arguments.command == "downgrade":
        downgrade(url, arguments.revision)
    print(current(url))


if __name__ == "__main__":
    main()
