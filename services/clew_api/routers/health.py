"""Whether the API lives, and whether the lab can work: a dead process is started again, a lab that waits is not."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import anyio.to_thread
import structlog
from fastapi import APIRouter, Response, status
from sqlalchemy import text

from clew_api.lab import Lab, LabDep
from clew_spec.api import ComponentHealth, Health

log = structlog.get_logger()
router = APIRouter(prefix="/health", tags=["health"])

PATIENCE_S = 3.0
DOWN: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "A component is down; the answer says which"}
}


@router.get("", responses=DOWN)
async def get_health(lab: LabDep, response: Response) -> Health:
    """Of the API and of the servers it needs. Needs no key, and tells no more than which one is down."""
    probes: dict[str, Callable[[Lab], None]] = {"database": _database, "redis": _redis, "objects": _objects}
    results = await asyncio.gather(*(_probe(name, probe, lab) for name, probe in probes.items()))
    components = dict(zip(probes, results, strict=True))
    ok = all(component.ok for component in results)
    if not ok:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    response.headers["Cache-Control"] = "no-store"
    return Health(ok=ok, version=version("clew"), components=components)


@router.get("/ready", responses=DOWN)
async def get_readiness(lab: LabDep, response: Response) -> Health:
    """Whether requests should be sent here now: Postgres, Redis and the object store each answer within 3 s."""
    return await get_health(lab, response)


@router.get("/live")
async def get_liveness(response: Response) -> Health:
    """Whether this process answers at all. Asks no server: where one of them is away, a new process would not help."""
    response.headers["Cache-Control"] = "no-store"
    return Health(ok=True, version=version("clew"), components={})


async def _probe(name: str, probe: Callable[[Lab], None], lab: Lab) -> ComponentHealth:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await anyio.to_thread.run_sync(probe, lab, abandon_on_cancel=True)
    except Exception as error:  # whatever it is, the component does not work
        log.warning("health.down", component=name, error=type(error).__name__)
        slow = isinstance(error, TimeoutError)
        return ComponentHealth(ok=False, detail=f"no answer in {PATIENCE_S:g} s" if slow else "does not answer")
    return ComponentHealth(ok=True)


def _database(lab: Lab) -> None:
    with lab.engine.connect() as connection:
        connection.execute(text("select 1"))


def _redis(lab: Lab) -> None:
    lab.redis.ping()


def _objects(lab: Lab) -> None:
    lab.store.stat("health")
