"""Bring a backup into an empty lab: all is checked first, and the rows appear together, after the objects they name."""

import hmac
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

import psycopg
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import MetaData

from clew_lab.backup.create import dumped
from clew_lab.backup.manifest import KEY_FILE, Manifest, StoredObject, Table, connect, copy, read
from clew_lab.catalogue import migrate, roles
from clew_lab.catalogue.engine import make_engine
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_spec.errors import Conflict, DataError

_IDENTITIES = """
    select table_name, column_name from information_schema.columns
    where table_schema = 'public' and is_identity = 'YES'
"""


@dataclass(frozen=True)
class Restored:
    manifest: Manifest
    keys_are_good: bool
    """Whether this lab has the secret key of the one that was backed up: else new API keys are needed."""


def restore(settings: Settings, folder: Path) -> Restored:
    """Make an empty lab what the backup says, at the schema of this version. One that was interrupted is done again.

    Jobs that ran when the backup was made are given out anew, once their leases have lapsed. Raises `Conflict` where
    the lab is not empty, `DataError` where the backup is not whole or of a newer version; then nothing was changed in
    the database.
    """
    manifest = read(folder)
    check(folder, manifest)
    url, store = settings.database_url.get_secret_value(), Store.of(settings)
    _refuse_a_used_database(url)
    store.create_bucket()
    _refuse_a_used_bucket(store, manifest)
    for stored in manifest.objects:
        store.put(stored.key, folder / stored.path, stored.sha256, media_type=stored.media_type)
    if migrate.current(url) is not None:
        migrate.downgrade(url, "base")
    migrate.upgrade(url, manifest.revision)
    order = _in_order(url, manifest)
    with connect(url) as connection:
        for table in order:
            _load(connection, folder, table)
        _after(connection, manifest)
    migrate.upgrade(url)
    roles.grant(url, roles.passwords_of(settings))
    own = settings.secret_key.get_secret_value()
    return Restored(manifest, hmac.compare_digest(own.encode(), (folder / KEY_FILE).read_bytes()))


def check(folder: Path, manifest: Manifest) -> None:
    """Raises `DataError` where a file is missing or changed, or where this version does not know the schema."""
    try:
        ScriptDirectory.from_config(migrate.config()).get_revision(manifest.revision)
    except CommandError as error:
        raise DataError(
            f"the backup is of the schema {manifest.revision}, which this version does not know",
            hint=f"restore it with Clew {manifest.version} or newer",
        ) from error
    parts: list[Table | StoredObject] = [*manifest.tables, *manifest.objects]
    for path, digest in {(part.path, part.sha256) for part in parts}:
        try:
            with (folder / path).open("rb") as file:
                found = file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise DataError(f"the backup lacks {path}", where=str(folder)) from error
        if found != digest:
            raise DataError(f"{path} of the backup was changed", where=str(folder), expected=f"sha256 {digest}")


def _refuse_a_used_database(url: str) -> None:
    with connect(url) as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (name,) in names:
            query = sql.SQL("select exists (select from {})").format(sql.Identifier("public", name))
            row = connection.execute(query).fetchone()
            if name != "alembic_version" and row is not None and row[0]:
                raise Conflict(
                    f"the lab is not empty: there are rows in {name}",
                    hint="restore into an empty database, and do not start the API before",
                )


def _refuse_a_used_bucket(store: Store, manifest: Manifest) -> None:
    expected = {stored.key for stored in manifest.objects}
    other = next((key for key in store.keys("projects/") if key not in expected), None)
    if other is not None:
        raise Conflict(
            f"the lab is not empty: the bucket {store.bucket} holds {other}", hint="restore into an empty bucket"
        )


def _in_order(url: str, manifest: Manifest) -> list[Table]:
    """So that every row finds what it refers to. Raises `DataError` where tables and schema do not agree."""
    engine = make_engine(url)
    schema = MetaData()
    schema.reflect(engine)
    engine.dispose()
    given = {table.name: table for table in manifest.tables}
    there = [table.name for table in schema.sorted_tables if table.name != "alembic_version"]
    if set(there) != set(given):
        raise DataError(f"the tables of the backup are not those of the schema {manifest.revision}")
    return [given[name] for name in there]


def _load(connection: psycopg.Connection, folder: Path, table: Table) -> None:
    """Raises `DataError` where the rows that lie in the table then are not, byte for byte, those of the backup."""
    given, found = Rows(), Rows()
    with connection.cursor() as cursor:
        with (
            (folder / table.path).open("rb") as file,
            cursor.copy(copy(table.name, table.columns, "from stdin")) as rows,
        ):
            for row in file:
                given.add(row)
                rows.write(row)
        for row in dumped(cursor, table.name, table.columns):
            found.add(row)
    if given != found or found.count != table.rows:
        raise DataError(f"the rows of {table.name} did not come back as they were")


@dataclass
class Rows:
    """A digest of rows in any order: where Postgres puts a row that it is given depends on what room there is."""

    count: int = 0
    total: int = 0

    def add(self, row: bytes) -> None:
        """row: a line, as COPY writes it."""
        self.count += 1
        self.total = (self.total + int.from_bytes(sha256(row).digest())) % 2**256


def _after(connection: psycopg.Connection, manifest: Manifest) -> None:
    """Numbers go on where they stood; a job without its checkpoint begins anew; uploads, whose files no backup holds,
    have expired."""
    for table, column in connection.execute(_IDENTITIES).fetchall():
        connection.execute(
            sql.SQL("select setval(pg_get_serial_sequence({}, {}), max({})) from {} having max({}) is not null").format(
                sql.Literal(table), sql.Literal(column), *(sql.Identifier(n) for n in (column, table, column))
            )
        )
    connection.execute("update jobs set checkpoint = null where id = any(%s)", [manifest.lost_checkpoints])
    if any(table.name == "uploads" for table in manifest.tables):
        connection.execute("update uploads set state = 'deleted', expires_at = now()")
