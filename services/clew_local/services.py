"""The lab's own processes, by the names of their modules: this package imports none of them."""

import http.client
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clew_local.servers.ports import LOOPBACK
from clew_local.servers.process import Child

POOLS = ("train", "circuits")


class Service:
    """`python -m MODULE`, ready as soon as it runs."""

    port: int | None = None
    stop_seconds = 15.0

    def __init__(self, name: str, data: Path, environ: Mapping[str, str], module: str, *arguments: str) -> None:
        self.name = name
        self.child = Child(name, data)
        self._environ = environ
        self._command = [sys.executable, "-m", module, *arguments]

    def launch(self) -> None:
        self.child.start(self._command, env=self._environ)

    def ready(self) -> bool:
        return self.child.pid is not None

    def clean(self) -> None:
        pass


class Api(Service):
    """Ready when it answers that it and what it needs are well."""

    def __init__(self, data: Path, environ: Mapping[str, str], port: int) -> None:
        super().__init__("api", data, environ, "clew_api")
        self.port: int = port

    def ready(self) -> bool:
        answer = health(self.port)
        return answer is not None and bool(answer.get("ok"))


class Worker(Service):
    """Told to stop, it has its job write a checkpoint first, and ends it where that takes too long."""

    def __init__(self, pool: str, data: Path, environ: Mapping[str, str], device: str) -> None:
        super().__init__(f"worker-{pool}", data, environ, "clew_worker", "--pool", pool, "--device", device)
        self.stop_seconds = drain_seconds(environ)


def under_role(environ: Mapping[str, str], role: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """The same for a service that comes to the database under a role of its own; as it is where there are no roles."""
    from clew_lab.catalogue.roles import ROLES, url_of

    named = next((known for known in ROLES if known == role and known in passwords), None)
    if named is None:
        return dict(environ)
    return {**environ, "CLEW_DATABASE_URL": url_of(environ["CLEW_DATABASE_URL"], named, passwords[named])}


def drain_seconds(environ: Mapping[str, str]) -> float:
    """How long a worker with these variables may take to stop: 80 s where they say nothing of it."""
    from clew_lab.settings import Settings

    graces = ("checkpoint_grace_s", "kill_grace_s")
    return 10 + sum(float(environ.get(f"CLEW_{n.upper()}", Settings.model_fields[n].default)) for n in graces)


def health(port: int) -> dict[str, Any] | None:
    """What `/api/v1/health` says, well or not; None where nobody answers."""
    value = _get(port, "/api/v1/health")
    return value if isinstance(value, dict) else None


def workers(port: int, key: str) -> dict[str, dict[str, Any]]:
    """The workers that the API knows, by pool; empty where it does not answer or does not take `key`."""
    value = _get(port, "/api/v1/workers", {"Authorization": f"Bearer {key}"})
    return {worker["pool"]: worker for worker in value} if isinstance(value, list) else {}


def _get(port: int, path: str, headers: Mapping[str, str] | None = None) -> Any:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def environment(
    data: Path, given: Mapping[str, str], servers: Mapping[str, str], *, secret: str, port: int
) -> dict[str, str]:
    """The variables of every service: the caller's, with what this lab knows better."""
    work, imports = data / "work", data / "imports"
    for folder in (work, imports):
        folder.mkdir(mode=0o700, exist_ok=True)
    defaults = {
        "CLEW_SECRET_KEY": secret,
        "CLEW_IMPORT_ROOTS": str(imports),
        "CLEW_DATA_DIR": str(work),
        "CLEW_CODE_VERSION": code_version(),
        "PYTHONUNBUFFERED": "1",
    }
    if dashboard := dashboard_folder():
        defaults["CLEW_DASHBOARD_DIR"] = str(dashboard)
    fixed = {**servers, "CLEW_API_HOST": LOOPBACK, "CLEW_API_PORT": str(port), "CLEW_DATA_DIR": str(work)}
    return {**defaults, **given, **fixed}


def dashboard_folder() -> Path | None:
    """The built dashboard of a source tree, if this is one."""
    built = Path(__file__).resolve().parents[1] / "dashboard" / "dist"
    return built if (built / "index.html").exists() else None


def code_version() -> str:
    """The commit of a source tree, else the version of the package."""
    from importlib.metadata import PackageNotFoundError, version

    git = Path(__file__).resolve().parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        loose = git / reference
        if loose.exists():
            return loose.read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next(words[0] for words in packed if words[1:] == [reference])
    except (OSError, StopIteration):
        pass
    try:
        return version("clew")
    except PackageNotFoundError:
        return "unknown"


def default_data() -> Path:
    """$CLEW_DATA_DIR, else `~/.local/share/clew`."""
    if named := os.environ.get("CLEW_DATA_DIR"):
        return Path(named)
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share) if share else Path.home() / ".local" / "share") / "clew"
