"""`clew backup` and `clew restore`: of the lab in a data folder, running or not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from clew_local.servers import Stack
from clew_local.services import environment
from clew_spec.errors import Conflict, NotFound, Problem, Unavailable, from_problem


def backup(data: Path, folder: Path, *, running: bool) -> dict[str, Any]:
    """Write the lab in `data` to a new folder; its servers are started for it where it does not run."""
    if not data.exists():
        raise NotFound(f"there is no lab in {data}")
    stack = Stack(data)
    if running:
        return _run("create", stack, folder)
    stack.start()
    try:
        return _run("create", stack, folder)
    finally:
        stack.stop()


def restore(data: Path, folder: Path, *, running: bool) -> dict[str, Any]:
    """Bring a backup into an empty lab in `data`, with the secret key that its API keys are stored under."""
    if running:
        raise Conflict(f"a lab runs in {data}", hint="name an empty folder with --data")
    if not (folder / "secret_key").is_file():
        raise NotFound(f"there is no backup in {folder}")
    stack = Stack(data)
    stack.secrets.adopt("secret_key", (folder / "secret_key").read_text(encoding="utf-8"))
    stack.start()
    try:
        return _run("restore", stack, folder)
    finally:
        stack.stop()


def _run(command: Literal["create", "restore"], stack: Stack, folder: Path) -> dict[str, Any]:
    """Raises what `clew_lab.backup` says in its own process."""
    secret = os.environ.get("CLEW_SECRET_KEY") or stack.secrets.get("secret_key")
    environ = environment(stack.data, os.environ, stack.endpoints().environment(), secret=secret, port=0)
    words = [sys.executable, "-m", "clew_lab.backup", command, str(folder.absolute())]
    done = subprocess.run(words, env=environ | stack.role_variables(), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    lines = done.stderr.strip().splitlines()
    try:
        raise from_problem(Problem.model_validate_json(lines[-1] if lines else ""))
    except ValidationError:
        raise Unavailable(f"{command} failed:\n" + "\n".join(lines[-15:])) from None
