"""Whether the process of this container does its work: `python health.py scheduler`, `worker NAME` or `workers NAME`.

A scheduler shows at `CLEW_METRICS_PORT` when each of its loops came round: it is well while all did so lately. A worker
is well while the row of its name has a fresh beat. Workers of a container are well while one of them is (NAME, or
NAME-0, NAME-1 and so on): each that falls over is started again inside.
"""

import os
import re
import sys
import time
from urllib.request import urlopen

import psycopg

LATE_SECONDS = 60
SLOW_SECONDS = {"retention": 3600}
"""Of loops that may take longer: there is much to delete, or the object store is away."""
LOOPS = {"dispatch", "release", "standing", "retention"}
LAST_TURN = re.compile(r'^clew_scheduler_last_turn_timestamp_seconds\{loop="(\w+)"\} (\S+)$', re.MULTILINE)
QUERIES = {
    "workers": """
        select exists (
            select from workers
            where name ~ %(names)s and beat_at > now() - make_interval(secs => %(late)s))""",
    "worker": """
        select exists (
            select from workers
            where name = %(name)s and beat_at > now() - make_interval(secs => %(late)s))""",
}


def healthy(kind: str, database_url: str, name: str | None = None) -> bool:
    with psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=5) as connection:
        values = {"name": name, "names": f"^{re.escape(name or '')}(-[0-9]+)?$", "late": LATE_SECONDS}
        row = connection.execute(QUERIES[kind], values).fetchone()
    return bool(row and row[0])


def turning(shown: str, now: float) -> bool:
    """shown: the scheduler's metrics."""
    ages = {loop: now - float(at) for loop, at in LAST_TURN.findall(shown)}
    return ages.keys() >= LOOPS and all(age < SLOW_SECONDS.get(loop, LATE_SECONDS) for loop, age in ages.items())


def turns(port: str) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return turning(answer.read().decode(), time.time())


if __name__ == "__main__":
    kind, *names = sys.argv[1:]
    if kind == "scheduler":
        well = turns(os.environ["CLEW_METRICS_PORT"])
    else:
        well = healthy(kind, os.environ["CLEW_DATABASE_URL"], *names)
    sys.exit(0 if well else 1)
