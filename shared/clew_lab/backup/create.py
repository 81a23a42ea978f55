"""Write a backup while the lab works: rows of one snapshot, then the objects that they name.

Objects are written once and kept as long as a row names them, so those of the snapshot are still there afterwards; only
a checkpoint may be replaced meanwhile.
"""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from uuid import UUID

import psycopg

from clew_lab.backup.manifest import KEY_FILE, MANIFEST, Manifest, StoredObject, Table, connect, copy
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_spec.errors import Conflict, DataError, NotFound

_TABLES = """
    select table_name, array_agg(column_name::text order by ordinal_position)
    from information_schema.tables join information_schema.columns using (table_schema, table_name)
    where table_schema = 'public' and table_type = 'BASE TABLE' and is_generated = 'NEVER'
      and table_name <> 'alembic_version'
    group by table_name order by table_name
"""
_ARTIFACTS = "select distinct on (key) key, sha256, size, media_type from artifacts order by key"
_CHECKPOINTS = """
    select id, file->>'key', file->>'sha256', (file->>'size')::bigint
    from jobs, jsonb_array_elements(checkpoint->'files') as file
    where state in ('queued', 'dispatched', 'running') and jsonb_typeof(checkpoint->'files') = 'array'
    order by id
"""


def create(settings: Settings, folder: Path) -> Manifest:
    """Write everything the lab has to `folder`, which appears when it is whole.

    Raises `Conflict` where there is such a folder, `DataError` where the database has no schema or an object is not
    what its row says, `Unavailable` where the object store does not answer.
    """
    if folder.exists():
        raise Conflict(f"{folder} is there already", hint="a backup is a folder of its own: name another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{token_hex(4)}.new")
    fresh.mkdir(mode=0o700)
    try:
        manifest = _write(settings, fresh)
        os.rename(fresh, folder)
        return manifest
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write(settings: Settings, folder: Path) -> Manifest:
    (folder / "tables").mkdir()
    made_at = datetime.now(UTC)
    with connect(settings.database_url.get_secret_value()) as connection:
        connection.read_only = True
        revision = _revision(connection)
        tables = [_dump(connection, folder, name, columns) for name, columns in connection.execute(_TABLES).fetchall()]
        named = [StoredObject(key=k, sha256=s, size=n, media_type=m) for k, s, n, m in connection.execute(_ARTIFACTS)]
        checkpoints = [
            (id, StoredObject(key=key, sha256=digest, size=size, media_type="application/octet-stream"))
            for id, key, digest, size in connection.execute(_CHECKPOINTS)
        ]
    store = Store.of(settings)
    for wanted in named:
        try:
            _fetch(store, folder, wanted)
        except NotFound as error:
            raise DataError(f"a file that the catalogue names is gone: {wanted.key}") from error
    kept, lost = _fetch_checkpoints(store, folder, checkpoints)
    manifest = Manifest(
        made_at=made_at,
        version=version("clew"),
        revision=revision,
        tables=tables,
        objects=[*named, *kept],
        lost_checkpoints=sorted(lost),
    )
    _put(folder / KEY_FILE, settings.secret_key.get_secret_value())
    _put(folder / MANIFEST, manifest.model_dump_json(indent=1))
    return manifest


def _revision(connection: psycopg.Connection) -> str:
    found = connection.execute("select to_regclass('public.alembic_version')").fetchone()
    row = connection.execute("select version_num from alembic_version").fetchone() if found and found[0] else None
    if row is None:
        raise DataError("the database holds no lab", hint="does CLEW_DATABASE_URL name the right one?")
    return str(row[0])


def _dump(connection: psycopg.Connection, folder: Path, name: str, columns: list[str]) -> Table:
    hashed = sha256()
    with connection.cursor() as cursor, open(folder / "tables" / name, "wb", opener=_closed) as file:
        for chunk in dumped(cursor, name, columns):
            hashed.update(chunk)
            file.write(chunk)
        rows = cursor.rowcount
    return Table(name=name, columns=columns, rows=rows, sha256=hashed.hexdigest())


def dumped(cursor: psycopg.Cursor, table: str, columns: list[str]) -> Iterator[bytes]:
    with cursor.copy(copy(table, columns, "to stdout")) as rows:
        for chunk in rows:
            yield bytes(chunk)


def _fetch(store: Store, folder: Path, wanted: StoredObject) -> None:
    path = folder / wanted.path
    if not path.exists():  # equal contents are kept once
        path.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(wanted.key, path, wanted.sha256)


def _fetch_checkpoints(
    store: Store, folder: Path, checkpoints: list[tuple[UUID, StoredObject]]
) -> tuple[list[StoredObject], set[UUID]]:
    """What is still there, and the jobs of which something is not."""
    kept, lost = [], set()
    for job_id, wanted in checkpoints:
        try:
            _fetch(store, folder, wanted)
            kept.append(wanted)
        except NotFound:
            (folder / wanted.path).unlink(missing_ok=True)
            lost.add(job_id)
    return kept, lost


def _put(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", opener=_closed) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _closed(path: str, flags: int) -> int:
    """For `open`: a file that only its owner reads."""
    return os.open(path, flags, 0o600)
