"""A lab on this machine whose data lie in one folder, started and stopped by `clew`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from clew_client import Lab

ROOT = Path(__file__).resolve().parent.parent
CREDENTIALS = ROOT / ".demo" / "credentials.json"
"""Of the lab that `make demo` leaves running."""


def clew() -> list[str]:
    return [str(Path(sys.executable).with_name("clew"))]


def start_lab(data: Path, import_root: Path) -> Lab:
    """Start the lab, or find it running, and sign in with the key that it made."""
    environment = os.environ | {"CLEW_IMPORT_ROOTS": str(import_root), "CLEW_CONFIG": str(data / "credentials.json")}
    command = [*clew(), "up", "--detach", "--data", str(data / "lab")]
    subprocess.run(command, env=environment, check=True)
    credentials = json.loads((data / "credentials.json").read_text())
    return Lab(credentials["url"], credentials["key"])


def stop_lab(data: Path) -> None:
    subprocess.run([*clew(), "down", "--data", str(data / "lab")], check=True)
