"""Rows in every table of any revision: what a migration finds in a lab that was used."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, func, inspect, select
from sqlalchemy.dialects.postgresql import JSONB

from clew_lab.catalogue import migrate
from clew_lab.catalogue.engine import make_engine

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory.from_config(migrate.config()).walk_revisions()))
]
"""From the first to the newest."""
_ONE_OF = re.compile(r"\(?(\w+) = ANY \(ARRAY\['([^']+)'")
_EITHER = re.compile(r"\(?(\w+) IS NULL\)? <> \(?(\w+) IS NULL")
ALTERNATIVES = ("one", "two")


def fill(url: str, *, objects: bool = True) -> dict[str, int]:
    """Two more rows in every table: one with all columns, one with only those that must be there.

    objects: also where a file of the store would be named. Returns how many rows each table has.
    """
    engine = make_engine(url)
    schema = MetaData()
    schema.reflect(engine)
    with engine.begin() as connection:
        made: dict[str, list[dict[str, Any]]] = {}
        for table in _tables(schema):
            if objects or table.name != "artifacts":
                made[table.name] = [_insert(connection, table, made, which) for which in range(len(ALTERNATIVES))]
        found = {table.name: _count(connection, table) for table in _tables(schema)}
    engine.dispose()
    return found


def counted(url: str) -> dict[str, int]:
    """How many rows each table has."""
    engine = make_engine(url)
    schema = MetaData()
    schema.reflect(engine)
    with engine.connect() as connection:
        found = {table.name: _count(connection, table) for table in _tables(schema)}
    engine.dispose()
    return found


def _tables(schema: MetaData) -> list[Table]:
    return [table for table in schema.sorted_tables if table.name != "alembic_version"]


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _insert(connection: Connection, table: Table, made: dict[str, list[dict[str, Any]]], which: int) -> dict[str, Any]:
    checks = [check["sqltext"] for check in inspect(connection).get_check_constraints(table.name)]
    choices = {match[1]: match[2] for text in checks if (match := _ONE_OF.search(text))}
    either = {match[1] for text in checks if (match := _EITHER.search(text))}
    checked = {column.name for column in table.columns for text in checks if re.search(rf"\b{column.name}\b", text)}
    values: dict[str, Any] = {}
    for column in table.columns:
        left_out = column.nullable and (which or column.name in checked) and column.name not in either
        if column.identity is not None or left_out:
            continue
        values[column.name] = choices.get(column.name, _value(column))
    for key in table.foreign_key_constraints:
        # The same row for all columns of the key; a table's own rows are not referred to.
        rows = made.get(key.referred_table.name, [])
        for column, element in zip(key.columns, key.elements, strict=True):
            if column.name in values:
                values[column.name] = rows[which][element.column.name] if rows else None
    row = connection.execute(table.insert().values(values).returning(*table.columns)).mappings().one()
    return dict(row)


def _value(column: Column[Any]) -> Any:
    if isinstance(column.type, JSONB):
        return {"a": [1, "\u00fc\n\t"]}
    kind = column.type.python_type
    by_kind: dict[type, Any] = {
        str: f"{column.name}-{uuid4().hex}\t\\ \n\u00fc",
        int: 1,
        float: 0.1,
        bool: False,
        UUID: uuid4(),
        datetime: datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    }
    return by_kind[kind]
