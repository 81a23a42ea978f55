"""Whether the API lives, and whether the lab can work: a dead process is started again, a lab that waits is not."""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from importlib.metadata import version
from typing import Annotated, Any

import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response, status
from sqlalchemy import text

from clew_api.lab import Lab
from clew_lab.storage import Store
from clew_spec.api import ComponentHealth, Health

log = structlog.get_logger()
router = APIRouter(prefix="/health", tags=["health"])

PATIENCE_S = 3.0
DOWN: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "A component is down; the answer says which"}
}


class Probe:
    """Asks a server whether it answers: once at a time, however many want to know it.

    Anybody may ask, and of a server that hangs each question would hold a thread. To be used in one event loop.
    """

    def __init__(self, name: str, ask: Callable[[], None]) -> None:
        self._name = name
        self._ask = ask
        self._thread = CapacityLimiter(1)
        """Apart from those of the requests, so that neither waits for the other."""
        self._asking: asyncio.Task[str | None] | None = None

    async def health(self) -> ComponentHealth:
        """What is found within `PATIENCE_S`. Who comes while the server is being asked shares the answer."""
        asking = self._asking
        if asking is None or asking.done():
            # Without the context of who came first: what it knows of one request is not of the others.
            asking = self._asking = asyncio.create_task(self._fault(), context=Context())
        await asyncio.wait([asking], timeout=PATIENCE_S)
        fault = asking.result() if asking.done() else f"no answer in {PATIENCE_S:g} s"
        return ComponentHealth(ok=fault is None, detail=fault)

    async def _fault(self) -> str | None:
        try:
            await run_sync(self._ask, abandon_on_cancel=True, limiter=self._thread)
        except Exception as error:  # whatever it is, the component does not work
            log.warning("health.down", component=self._name, error=type(error).__name__)
            return "does not answer"
        return None


Probes = Mapping[str, Probe]


def probes(lab: Lab) -> Probes:
    """By component; to be kept for as long as the lab is open."""
    # Not the lab's own store, which waits for minutes: one question that hangs is the answer to all that come.
    store = Store.of(lab.settings, patience_s=PATIENCE_S)

    def database() -> None:
        with lab.engine.connect() as connection:
            connection.execute(text("select 1"))

    def redis() -> None:
        lab.redis.ping()

    def objects() -> None:
        store.stat("health")

    return {ask.__name__: Probe(ask.__name__, ask) for ask in (database, redis, objects)}


async def _probes(request: Request) -> Probes:
    kept: Probes = request.app.state.probes
    return kept


ProbesDep = Annotated[Probes, Depends(_probes)]


@router.get("", responses=DOWN)
async def get_health(kept: ProbesDep, response: Response) -> Health:
    """Of the API and of the servers it needs. Needs no key, and tells no more than which one is down."""
    results = await asyncio.gather(*(probe.health() for probe in kept.values()))
    components = dict(zip(kept, results, strict=True))
    ok = all(component.ok for component in results)
    if not ok:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    response.headers["Cache-Control"] = "no-store"
    return Health(ok=ok, version=version("clew"), components=components)


@router.get("/ready", responses=DOWN)
async def get_readiness(kept: ProbesDep, response: Response) -> Health:
    """Whether requests should be sent here now: Postgres, Redis and the object store each answer within 3 s."""
    return await get_health(kept, response)


@router.get("/live")
async def get_liveness(response: Response) -> Health:
    """Whether this process answers at all. Asks no server: where one of them is away, a new process would not help."""
    response.headers["Cache-Control"] = "no-store"
    return Health(ok=True, version=version("clew"), components={})
