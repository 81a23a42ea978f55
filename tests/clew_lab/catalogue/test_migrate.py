"""Migrations on a real Postgres."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from tests.support.rows import REVISIONS, counted, fill
from tests.support.servers import Lab

from clew_lab.catalogue import migrate
from clew_lab.catalogue.engine import make_engine
from clew_lab.catalogue.migrations.versions.r0001_first import TABLES as TABLES_OF_THE_FIRST
from clew_lab.catalogue.tables import Base


def test_the_migrations_make_exactly_the_tables(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate.downgrade(empty_database_url, "base")
    assert migrate.current(empty_database_url) is None
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(empty_database_url)
    engine.dispose()


def test_every_revision_is_walked_up_and_down_with_rows_in_every_table(empty_database_url: str) -> None:
    """Rows of each revision live through every later one, there and back; at the end all is gone, and comes anew."""
    url = empty_database_url
    for number, revision in enumerate(REVISIONS):
        migrate.upgrade(url, revision)
        before = counted(url)
        assert number == 0 or min(before[table] for table in TABLES_OF_THE_FIRST) >= 2 * number
        fill(url)
        full = counted(url)
        if number:
            migrate.downgrade(url, REVISIONS[number - 1])
            kept = counted(url)
            assert {table: full[table] for table in kept} == kept, f"{revision} lost rows on its way down"
            migrate.upgrade(url, revision)
            assert {table: kept[table] for table in kept} == {table: counted(url)[table] for table in kept}
    migrate.downgrade(url, REVISIONS[0])
    assert {table: full[table] for table in TABLES_OF_THE_FIRST} == counted(url)
    migrate.downgrade(url, "base")
    assert counted(url) == {}
    migrate.upgrade(url)
    assert set(counted(url).values()) == {0}


def test_many_starters_migrate_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate.upgrade, [empty_database_url] * 4))
    head = ScriptDirectory.from_config(migrate.config()).get_current_head()
    assert head is not None
    assert migrate.current(empty_database_url) == head


def test_the_first_key_is_made_once(lab: Lab) -> None:
    command = [sys.executable, "-m", "clew_lab.catalogue.bootstrap", "--project", "main", "--key-name", "admin"]
    environ = {**os.environ, **lab.environ}

    def bootstrap(*flags: str) -> str | None:
        done = subprocess.run([*command, *flags], env=environ, capture_output=True, text=True, check=True)
        answer: dict[str, str | None] = json.loads(done.stdout)
        return answer["key"]

    with ThreadPoolExecutor(3) as pool:
        keys = list(pool.map(bootstrap, ["--if-missing"] * 3))
    assert sorted(key is None for key in keys) == [False, True, True]
    again = bootstrap()
    assert again is not None
    assert again not in keys
