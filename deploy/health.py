"""Whether the process of this container does its work: `python health.py scheduler`, `worker NAME` or `workers NAME`.

A scheduler looks at the database every second: it is well while a session of this container's address did so lately. A
worker is well while the row of its name has a fresh beat. Workers of a container are well while one of them is (NAME
itself, or NAME-0, NAME-1 and so on): each that falls over is started again inside.
"""

import os
import re
import sys

import psycopg

LATE_SECONDS = 60
QUERIES = {
    "scheduler": """
        select exists (
            select from pg_stat_activity
            where datname = current_database() and client_addr = inet_client_addr() and pid <> pg_backend_pid()
              and state_change > now() - make_interval(secs => %(late)s))""",
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


if __name__ == "__main__":
    kind, *names = sys.argv[1:]
    sys.exit(0 if healthy(kind, os.environ["CLEW_DATABASE_URL"], *names) else 1)
