"""What a backup holds.

manifest.json        this, written last
secret_key           under which the lab's keys are stored: without it none of them is good
tables/NAME          rows as Postgres' COPY writes them, all of one snapshot
objects/ab/SHA256    contents of objects, each once
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import UUID

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clew_lab.catalogue.engine import libpq_url
from clew_spec.errors import DataError, NotFound

MANIFEST: Final = "manifest.json"
KEY_FILE: Final = "secret_key"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(Part):
    name: Identifier
    columns: list[Identifier]
    rows: int
    sha256: Sha256
    """Of the file, and of what COPY writes once its rows are back in a database."""

    @property
    def path(self) -> Path:
        return Path("tables", self.name)


class StoredObject(Part):
    key: str
    sha256: Sha256
    size: int
    media_type: str

    @property
    def path(self) -> Path:
        return Path("objects", self.sha256[:2], self.sha256)


class Manifest(Part):
    format: Literal[1] = 1
    made_at: datetime
    version: str
    revision: str
    """Of the schema that the rows are of."""
    tables: list[Table]
    objects: list[StoredObject]
    lost_checkpoints: list[UUID] = []
    """Jobs whose checkpoint was replaced while the backup was made: restored, they begin anew."""


def read(folder: Path) -> Manifest:
    """Raises `NotFound` where there is no backup, `DataError` where this version cannot read it."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no backup in {folder}", expected=f"a folder with a {MANIFEST}") from error
    except ValidationError as error:
        raise DataError(
            f"{folder / MANIFEST} cannot be read: {error.errors()[0]['msg']}",
            hint="a newer version of Clew may have made it",
        ) from error


def connect(url: str) -> psycopg.Connection:
    """As the owner, with settings that decide how COPY writes a value: the same rows are the same bytes again."""
    options = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex"
    connection = psycopg.connect(libpq_url(url), connect_timeout=5, client_encoding="UTF8", options=options)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return connection


def copy(table: str, columns: list[str], way: Literal["to stdout", "from stdin"]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("copy {} ({}) " + way).format(sql.Identifier("public", table), names)
