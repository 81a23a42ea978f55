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
from tests.support.servers import Lab

from clew_lab.catalogue import migrate
from clew_lab.catalogue.engine import make_engine
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
