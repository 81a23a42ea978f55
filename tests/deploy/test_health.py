"""The health checks of the containers that serve no port, on a real database."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.support.servers import Lab
from tests.support.waiting import until

SCRIPT = Path(__file__).parents[2] / "deploy" / "health.py"
healthy: Callable[..., bool] = runpy.run_path(str(SCRIPT))["healthy"]


@pytest.fixture
def connection(database_url: str) -> psycopg.Connection:
    return psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True)


def test_a_worker_is_well_while_its_beat_is_fresh(database_url: str, connection: psycopg.Connection) -> None:
    insert = (
        "INSERT INTO workers (id, name, pool, device, memory_bytes) VALUES (gen_random_uuid(), %s, 'train', 'cpu', 1)"
    )
    with connection:
        assert not healthy("worker", database_url, "box-train")
        for another in ("another-train", "box-circuits", "box-train-2"):
            connection.execute(insert, [another])
            assert not healthy("worker", database_url, "box-train"), f"{another} does not speak for it"
        connection.execute(insert, ["box-train"])
        assert healthy("worker", database_url, "box-train")
        connection.execute("UPDATE workers SET beat_at = now() - interval '2 minutes' WHERE name = 'box-train'")
        assert not healthy("worker", database_url, "box-train")
        assert healthy("workers", database_url, "box-train"), "box-train-2 is one of them"
        assert not healthy("workers", database_url, "box")
        environ = os.environ | {"CLEW_DATABASE_URL": database_url}
        for name, code in (("box-train", 1), ("box-circuits", 0)):
            command = [sys.executable, str(SCRIPT), "worker", name]
            assert subprocess.run(command, env=environ, check=False).returncode == code


def test_a_scheduler_is_well_while_it_turns(lab: Lab) -> None:
    url = lab.environ["CLEW_DATABASE_URL"]
    assert not healthy("scheduler", url)
    scheduler = subprocess.Popen([sys.executable, "-m", "clew_scheduler"], env=os.environ | lab.environ)
    try:
        until(lambda: healthy("scheduler", url), "the scheduler is well")
    finally:
        scheduler.kill()
        scheduler.wait()
    until(lambda: not healthy("scheduler", url), "a killed scheduler is not well")


def test_a_database_that_does_not_answer_is_not_well(database_url: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        healthy("scheduler", database_url.replace("127.0.0.1", "127.0.0.2"))
