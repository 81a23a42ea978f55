"""The three servers together: started side by side, replaced one by one by what the environment names."""

import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from clew_local.files import Secrets
from clew_local.servers.ports import Ports
from clew_local.servers.postgres import Postgres
from clew_local.servers.process import Child, end_leftovers
from clew_local.servers.seaweed import BUCKET, Seaweed
from clew_local.servers.valkey import Valkey
from clew_spec.errors import Conflict, InvalidSpec, Unavailable

START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_S3_KEYS = ("CLEW_S3_ACCESS_KEY", "CLEW_S3_SECRET_KEY", "CLEW_S3_BUCKET")


class Server(Protocol):
    """What a stack asks of a server."""

    name: str
    child: Child

    @property
    def port(self) -> int: ...

    def launch(self) -> None:
        """Start the process and return at once. Called again after it died."""

    def ready(self) -> bool:
        """Whether it does its work now: one try, no waiting."""

    def clean(self) -> None:
        """Remove what the ended process left outside the data folder and a start does not need."""


@dataclass(frozen=True)
class Endpoints:
    """Where the three servers are, whoever runs them."""

    database_url: str
    redis_url: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    s3_bucket: str
    s3_secure: bool
    s3_public_url: str

    def environment(self) -> dict[str, str]:
        """The `CLEW_*` variables that tell a child of them."""
        values = {f"CLEW_{name.upper()}": value for name, value in vars(self).items()}
        return {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}


class Stack:
    """Postgres, Valkey and SeaweedFS of one data folder.

    A server whose URL is in `environ` is not started. `durable=False` is for tests: nothing waits for the disk.
    Raises InvalidSpec where `environ` names an S3 server without its keys.
    """

    def __init__(self, data: Path, *, environ: Mapping[str, str] | None = None, durable: bool = True) -> None:
        self.data = data
        self._environ = dict(os.environ if environ is None else environ)
        make_folder(data)
        self.ports = Ports(data / "ports.json")
        self.secrets = Secrets(data / "secrets.json")
        self._lock: IO[str] | None = None
        self.servers: list[Server] = []
        self._postgres = self._valkey = self._seaweed = None
        if "CLEW_S3_ENDPOINT" not in self._environ:
            self._seaweed = Seaweed(data, self.ports, self.secrets, durable=durable)
            self.servers.append(self._seaweed)
        elif missing := [key for key in _S3_KEYS if key not in self._environ]:
            raise InvalidSpec("CLEW_S3_ENDPOINT is set without " + ", ".join(missing), where="environment")
        if "CLEW_REDIS_URL" not in self._environ:
            self._valkey = Valkey(data, self.ports, self.secrets, durable=durable)
            self.servers.append(self._valkey)
        if "CLEW_DATABASE_URL" not in self._environ:
            programs = self._environ.get("PG_BIN_DIR")
            self._postgres = Postgres(
                data, self.ports, self.secrets, durable=durable, bin_dir=Path(programs) if programs else None
            )
            self.servers.append(self._postgres)

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start what is not running and wait until all of it works.

        Raises Unavailable where a server does not start, Conflict where the data folder is in use.
        """
        self.lock()
        try:
            for server in self.servers:
                server.launch()
            self.wait(seconds)
        except BaseException:
            self.stop()
            raise

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Return when every server is ready. Raises Unavailable where one ends or takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        waiting = list(self.servers)
        while waiting:
            waiting = [server for server in waiting if not server.ready()]
            for server in waiting:
                if server.child.pid is None:
                    raise Unavailable(
                        f"{server.name} ended with code {server.child.returncode} while starting:\n"
                        + server.child.last_words()
                    )
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"{server.name} was not ready within {seconds:.0f} s:\n{server.child.last_words()}"
                    )
            if waiting:
                time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask all to end, wait, kill what does not."""
        for server in self.servers:
            server.child.ask_to_stop()
        for server in self.servers:
            server.child.stop()
            server.clean()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def destroy(self) -> None:
        """Stop, and delete what lies outside the data folder."""
        self.stop()
        if self._postgres is not None:
            self._postgres.destroy()

    def endpoints(self) -> Endpoints:
        given = self._environ
        secure = given.get("CLEW_S3_SECURE", "false").lower() in ("1", "true", "yes", "on")
        s3 = self._seaweed
        endpoint = s3.endpoint if s3 else given["CLEW_S3_ENDPOINT"]
        return Endpoints(
            database_url=self._postgres.url if self._postgres else given["CLEW_DATABASE_URL"],
            redis_url=self._valkey.url if self._valkey else given["CLEW_REDIS_URL"],
            s3_endpoint=endpoint,
            s3_access_key=s3.access_key if s3 else given["CLEW_S3_ACCESS_KEY"],
            s3_secret_key=s3.secret_key if s3 else given["CLEW_S3_SECRET_KEY"],
            s3_bucket=BUCKET if s3 else given["CLEW_S3_BUCKET"],
            s3_secure=secure and s3 is None,
            s3_public_url=given.get(
                "CLEW_S3_PUBLIC_URL", f"{'https' if secure and s3 is None else 'http'}://{endpoint}"
            ),
        )

    def role_passwords(self) -> dict[str, str]:
        """By role, for API, scheduler and worker; empty where the database is another's, who makes roles there."""
        if self._postgres is None:
            return {}
        return {role: self.secrets.get(f"postgres_{role}") for role in ("api", "scheduler", "worker")}

    def role_variables(self) -> dict[str, str]:
        """The same for who migrates."""
        return {f"CLEW_DB_PASSWORD_{role.upper()}": password for role, password in self.role_passwords().items()}

    def lock(self) -> None:
        """Claim the data folder until `stop`, and end what a killed supervisor left running on it.

        Raises Conflict where another process holds it.
        """
        if self._lock is not None:
            return
        lock = open(self.data / "lock", "w", encoding="ascii")  # noqa: SIM115  # held as long as the servers run
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise Conflict(
                f"the data folder {self.data} is in use by a running lab",
                hint="`clew status` shows it, `clew down` stops it",
            ) from error
        self._lock = lock
        end_leftovers(self.data)


def make_folder(data: Path) -> None:
    """The data folder. Others may pass (Postgres does, as `nobody`); every file in it is closed to them."""
    data.parent.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        data.mkdir(mode=0o711)
        data.chmod(0o711)
