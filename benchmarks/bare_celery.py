"""The peer of the queue: FastAPI, Celery and a table, put together as their manuals do, and nothing else.

    python -m benchmarks.bare_celery PORT           serves POST /jobs: one INSERT, COMMIT, `apply_async`
    celery --app benchmarks.bare_celery worker      runs the task, which says when it began

Addresses are those of the lab beside it: `CLEW_DATABASE_URL`, `CLEW_REDIS_URL`. The server and its pool of connections
are as the lab's API has them.
"""

import json
import os
import sys
import time
from typing import Any

import redis
import uvicorn
from celery import Celery
from fastapi import FastAPI
from sqlalchemy import Engine, text

from clew_api.lab import POOL
from clew_lab.catalogue.engine import make_engine
from clew_local.servers.ports import LOOPBACK

REDIS_URL = os.environ.get("CLEW_REDIS_URL", "")
TABLE = "create table bare_jobs (id uuid primary key default gen_random_uuid(), body jsonb not null)"
INSERT = text("insert into bare_jobs (body) values (cast(:body as jsonb)) returning id")

TASK = "bare.run"

app = Celery("bare", broker=REDIS_URL)


def began_key(id: str) -> str:
    """The list in Redis to which the task of this id appends when it began, by the machine's clock."""
    return f"began:{id}"


@app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def run(id: str) -> None:
    began = time.time()
    with redis.Redis.from_url(REDIS_URL) as client:
        client.rpush(began_key(id), began)


def make_api(engine: Engine) -> FastAPI:
    api = FastAPI()

    @api.post("/jobs", status_code=202)
    def submit(body: dict[str, Any]) -> dict[str, str]:
        with engine.begin() as connection:
            id = str(connection.scalar(INSERT, {"body": json.dumps(body)}))
        run.apply_async((id,))
        return {"id": id}

    return api


def main() -> None:
    url = os.environ["CLEW_DATABASE_URL"]
    engine = make_engine(url, pool_size=POOL, max_overflow=POOL, pool_timeout=10)
    uvicorn.run(
        make_api(engine),
        host=LOOPBACK,
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
    )


if __name__ == "__main__":
    main()
