"""Whether the lab can work."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version

import anyio.to_thread
import structlog
from fastapi import APIRouter, Response, status
from sqlalchemy import text

from clew_api.lab import Lab, LabDep
from clew_spec.api import ComponentHealth, Health

log = structlog.get_logger()
router = APIRouter(prefix="/health", tags=["health"])

PATIENCE_S = 3.0


@router.get("", responses={503: {"model": Health, "description": "A component is down; the answer says which"}})
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
