"""The health checks of the containers that serve no port, on a real database."""

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from tests.support.servers import Lab
from tests.support.waiting import until

from clew_local.servers.ports import free_ports

SCRIPT = Path(__file__).parents[2] / "deploy" / "health.py"
script = runpy.run_path(str(SCRIPT))
healthy: Callable[..., bool] = script["healthy"]
turning: Callable[[str, float], bool] = script["turning"]


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


def test_a_scheduler_is_well_while_all_its_loops_come_round(lab: Lab) -> None:
    """Frozen or killed, it is not; and one loop that is stuck is enough."""
    port = str(free_ports(1)[0])
    environ = os.environ | lab.environ | {"CLEW_METRICS_PORT": port}

    def well() -> bool:
        command = [sys.executable, str(SCRIPT), "scheduler"]
        return subprocess.run(command, env=environ, check=False, capture_output=True).returncode == 0

    assert not well()
    scheduler = subprocess.Popen([sys.executable, "-m", "clew_scheduler"], env=environ)
    try:
        until(well, "the scheduler is well", seconds=90)
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            shown = answer.read().decode()
        scheduler.send_signal(signal.SIGSTOP)
        assert not well()
    finally:
        scheduler.kill()
        scheduler.wait()
    assert not well(), "a killed scheduler is not well"
    now = time.time()
    assert turning(shown, now)
    for loop in ("dispatch", "release", "standing", "retention"):
        sample = rf'(last_turn_timestamp_seconds{{loop="{loop}"}}) \S+'
        assert not turning(re.sub(sample, r"\1 1.0", shown), now), f"{loop} is stuck"
        assert not turning(re.sub(sample, "", shown), now), f"{loop} never began"


def test_a_database_that_does_not_answer_is_not_well(database_url: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        healthy("worker", database_url.replace("127.0.0.1", "127.0.0.2"))
