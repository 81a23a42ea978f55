"""Real servers for a test run, and fresh corners of them for a test.

Ask for the narrowest fixture that does: `database_url`, `redis_url`, `s3`, or `lab` for all three and the settings.
A test that kills or stops a server asks for `private_stack`; it never touches the shared `stack`.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING
from unittest import mock

import psycopg
import pytest
import redis
from minio import Minio
from minio.deleteobjects import DeleteObject
from psycopg import sql

from clew_local.servers import Stack
from clew_local.servers.ports import free_ports

if TYPE_CHECKING:
    from clew_lab.catalogue.roles import Role
    from clew_lab.settings import Settings


ROLE_PASSWORD = "of-the-roles-of-tests"


@dataclass(frozen=True)
class S3:
    """One bucket of the test's own."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    def client(self) -> Minio:
        return Minio(self.endpoint, self.access_key, self.secret_key, secure=False, region="us-east-1")


@dataclass(frozen=True)
class Lab:
    """A migrated, empty lab: `environ` for child processes, `settings` for code in this one."""

    environ: dict[str, str]
    settings: "Settings"


def temporary_stack(*, durable: bool = False) -> Iterator[Stack]:
    """A stack in a folder of its own that other users may pass, as Postgres must where root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="clew-tests-"))
    folder.chmod(0o711)
    servers = Stack(folder / "lab", environ={}, durable=durable)
    try:
        servers.start()
        yield servers
    finally:
        servers.destroy()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Postgres, Valkey and SeaweedFS for the whole run; one set for each xdist worker."""
    yield from temporary_stack()


@pytest.fixture
def private_stack() -> Iterator[Stack]:
    """Three servers of the test's own, to be killed at will."""
    yield from temporary_stack()


class Databases:
    """Creates and drops databases of one server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, name: str) -> str:
        return self._url.rsplit("/", 1)[0] + f"/{name}"

    def create(self, *, template: str = "template0") -> str:
        name = f"test_{token_hex(6)}"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop(self, name: str) -> None:
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def databases(stack: Stack) -> Databases:
    return Databases(stack.endpoints().database_url)


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database without a table in it."""
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> str:
    """The name of a database with every migration applied, to copy from; nothing stays connected to it."""
    name = databases.create()
    migrated(databases.url(name))
    return name


def migrated(url: str) -> None:
    """Bring a database to what a lab has: every table, and for each process a role of its own."""
    from clew_lab.catalogue import migrate, roles

    migrate.upgrade(url)
    roles.grant(url, dict.fromkeys(roles.ROLES, ROLE_PASSWORD))


def under_role(url: str, role: "Role") -> str:
    """The same database for a process of that role: it has what it needs there, and nothing else."""
    from clew_lab.catalogue import roles

    return roles.url_of(url, role, ROLE_PASSWORD)


@pytest.fixture
def database_url(databases: Databases, migrated_template: str) -> Iterator[str]:
    """A migrated database that only this test sees."""
    name = databases.create(template=migrated_template)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def _redis_numbers() -> Iterator[int]:
    return itertools.cycle(range(1, 16))


@pytest.fixture
def redis_url(stack: Stack, _redis_numbers: Iterator[int]) -> Iterator[str]:
    """An empty Redis database that only this test sees (FLUSHALL is harmless: tests of a worker run one by one)."""
    url = stack.endpoints().redis_url.rsplit("/", 1)[0] + f"/{next(_redis_numbers)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    yield url
    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.fixture
def s3(stack: Stack) -> Iterator[S3]:
    """An empty bucket that only this test sees."""
    where = stack.endpoints()
    corner = S3(where.s3_endpoint, where.s3_access_key, where.s3_secret_key, f"test-{token_hex(6)}")
    client = corner.client()
    client.make_bucket(bucket_name=corner.bucket)
    yield corner
    names = [
        DeleteObject(item.object_name)
        for item in client.list_objects(bucket_name=corner.bucket, recursive=True)
        if item.object_name
    ]
    for error in client.remove_objects(bucket_name=corner.bucket, delete_object_list=names):
        raise AssertionError(f"the bucket of a test could not be emptied: {error.message}")
    client.remove_bucket(bucket_name=corner.bucket)


def settings_from(environ: dict[str, str]) -> "Settings":
    """The settings that a child process started with `environ` would read."""
    from clew_lab.settings import Settings

    other = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
    with mock.patch.dict(os.environ, other | environ, clear=True):
        return Settings()


def lab_on(stack: Stack, folder: Path, **settings: object) -> Lab:
    """A lab on these servers with its files below `folder`; `settings` as `Settings` names them."""
    imports = folder / "imports"
    imports.mkdir(exist_ok=True)
    environ = stack.endpoints().environment() | {
        "CLEW_SECRET_KEY": "a-secret-of-the-tests-" + "0" * 32,
        "CLEW_DATA_DIR": str(folder / "data"),
        "CLEW_IMPORT_ROOTS": str(imports),
        "CLEW_API_HOST": "127.0.0.1",
        "CLEW_API_PORT": str(free_ports(1)[0]),
        "CLEW_CODE_VERSION": "test",
    }
    environ |= {f"CLEW_{name.upper()}": str(value) for name, value in settings.items()}
    return Lab(environ, settings_from(environ))


@pytest.fixture
def make_lab(stack: Stack, database_url: str, redis_url: str, s3: S3, tmp_path: Path) -> Callable[..., Lab]:
    """Labs on this test's database, Redis and bucket; keywords are settings: `make_lab(code_version="2")`."""

    def make(**overrides: object) -> Lab:
        corner = {"database_url": database_url, "redis_url": redis_url, "s3_bucket": s3.bucket}
        return lab_on(stack, tmp_path, **(corner | overrides))

    return make


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A migrated, empty lab on real servers."""
    return make_lab()


@pytest.fixture
def lab_settings(lab: Lab) -> Lab:
    """The same as `lab`."""
    return lab
