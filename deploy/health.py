"""Whether the process of this container does its work: `python health.py scheduler` or `python health.py worker NAME`.

These two serve no port. A scheduler looks at the database every second: it is well while a session of this container's
address did so lately. A worker is well while the row of its name has a fresh beat.
"""

import os
import sys

import psycopg

LATE_SECONDS = 60
QUERIES = {
    "scheduler": """
        select exists (
            select from pg_stat_activity
            where datname = current_database() and client_addr = inet_client_addr() and pid <> pg_backend_pid()
              and state_change > now() - make_interval(secs => %(late)s))""",
    "worker": """
        select exists (
            select from workers
            where name = %(name)s and beat_at > now() - make_interval(secs => %(late)s))""",
}


def healthy(kind: str, database_url: str, name: str | None = None) -> bool:
    with psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=5) as connection:
        row = connection.execute(QUERIES[kind], {"name": name, "late": LATE_SECONDS}).fetchone()
    return bool(row and row[0])


if __name__ == "__main__":
    kind, *names = sys.argv[1:]
    sys.exit(0 if healthy(kind, os.environ["CLEW_DATABASE_URL"], *names) else 1)
