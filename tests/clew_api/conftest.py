"""The API on real servers: in this process for single answers, behind uvicorn for streams."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.clew_api.seeds import Tenant, World
from tests.support.servers import Lab, under_role

from clew_api.__main__ import Server
from clew_api.app import create_app
from clew_lab.catalogue.engine import make_engine, session_factory

DASHBOARD = {"index.html": "<title>Clew</title>", "assets/app-1a2b3c.js": "export {};", "favicon.svg": "<svg/>"}


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    engine = make_engine(lab.settings.database_url.get_secret_value())
    yield World(session_factory(engine), lab.settings, tmp_path)
    engine.dispose()


@pytest.fixture
def alice(world: World) -> Tenant:
    return world.tenant("alice")


@pytest.fixture
def bob(world: World) -> Tenant:
    return world.tenant("bob")


@pytest.fixture
def records(world: World, alice: Tenant) -> None:
    """A model, a dataset and coders of alice's."""
    world.dataset(alice)
    world.coders(alice, world.model(alice), world.dataset(alice))


@pytest.fixture
def app(make_lab: Callable[..., Lab], database_url: str, tmp_path: Path) -> FastAPI:
    """Under the role that the API has in a lab."""
    folder = tmp_path / "dist"
    for name, content in DASHBOARD.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return create_app(make_lab(dashboard_dir=folder, database_url=under_role(database_url, "api")).settings)


@pytest.fixture
def anyone(app: FastAPI) -> Iterator[TestClient]:
    """A client without a key; an exception that no handler meets would be raised here."""
    with TestClient(app, base_url="http://clew.test") as client:
        yield client


@pytest.fixture
def api(anyone: TestClient, alice: Tenant) -> TestClient:
    """A client with alice's key."""
    anyone.headers.update(alice.auth)
    return anyone


class Running:
    """The API behind a real server, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._server = Server(app, host="127.0.0.1", port=0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/api/v1"

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            self._thread.join(0.01)

    def stop(self, timeout: float) -> bool:
        """Ask it to stop; whether it has within the time."""
        self._server.should_exit = True
        self._thread.join(timeout)
        return not self._thread.is_alive()


@pytest.fixture
def running(app: FastAPI) -> Iterator[Running]:
    server = Running(app)
    server.start()
    yield server
    assert server.stop(15)
