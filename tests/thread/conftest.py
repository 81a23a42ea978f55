"""The whole lab, started as a user starts it, with leases at a tenth."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from clew_client import Lab
from clew_local.servers.ports import free_ports
from tests.thread.toy_lm import write_model

FAST = {
    "CLEW_DISPATCH_LEASE_S": "3",
    "CLEW_RUNNING_LEASE_S": "6",
    "CLEW_BEAT_S": "1",
    "CLEW_FENCE_AFTER_S": "3",
    "CLEW_KILL_GRACE_S": "1",
    "CLEW_POLL_S": "0.2",
    "CLEW_RUNNER_THREADS": "1",
}


@dataclass(frozen=True)
class RunningLab:
    client: Lab
    folder: Path
    imports: Path
    environ: dict[str, str]

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this lab whose command line ends with `words`."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            line = process.info["cmdline"] or []
            if line[-len(words) :] == list(words) and self._is_ours(process):
                found.append(process)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return any(str(self.folder) in part for part in [process.cwd(), *process.environ().values()])
        except psutil.Error:
            return False


def pytest_itemcollected(item: pytest.Item) -> None:
    """A whole lab works for them, each process of which takes seconds to begin."""
    item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="module")
def thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    folder = tmp_path_factory.mktemp("thread")
    imports = folder / "imports"
    write_model(imports / "toy")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
    environ |= FAST | {"CLEW_IMPORT_ROOTS": str(imports), "CLEW_CONFIG": str(folder / "credentials.json")}
    command = [sys.executable, "-m", "clew_client"]
    data = ["--data", str(folder / "lab")]
    port = ["--port", str(free_ports(1)[0])]
    subprocess.run([*command, "up", "--detach", *data, *port], env=environ, check=True, timeout=180)
    try:
        credentials = json.loads((folder / "credentials.json").read_text())
        with Lab(credentials["url"], credentials["key"]) as client:
            yield RunningLab(client, folder, imports, environ)
    finally:
        subprocess.run([*command, "down", *data], env=environ, check=True, timeout=120)
