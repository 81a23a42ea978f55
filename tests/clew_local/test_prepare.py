"""What is done to the database before anything uses it."""

import json
import os
import subprocess
import sys

from tests.support.servers import Lab

from clew_lab.catalogue import migrate


def prepare(environ: dict[str, str], *names: str) -> str | None:
    command = [sys.executable, "-m", "clew_local.prepare", *names]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=True)
    key: str | None = json.loads(done.stdout)["key"]
    return key


def test_an_empty_database_gets_its_schema_and_one_key_a_name(lab: Lab) -> None:
    url = lab.environ["CLEW_DATABASE_URL"]
    newest = migrate.current(url)
    migrate.downgrade(url, "base")
    first = prepare(lab.environ, "admin", "admin-2")
    assert migrate.current(url) == newest
    assert first is not None
    assert first.startswith("clew_")
    assert prepare(lab.environ, "admin") is None
    lost = prepare(lab.environ, "admin", "admin-2")
    assert lost not in (None, first), "the first run has not used the second name"
    assert prepare(lab.environ, "admin", "admin-2") is None
