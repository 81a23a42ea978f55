"""Other projects, each installed in a virtual environment of its own, and how a test asks them for something."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".cache" / "peers"

Peer = Callable[..., dict[str, Tensor]]
"""`peer(action, folder, **tensors)`: what the peer's script answers, by name."""


def environment(name: str) -> Path:
    """The Python of a peer's virtual environment, which is made anew where its requirements have changed."""
    requirements = HERE / "requirements" / f"{name}.txt"
    folder = ENVIRONMENTS / name
    stamp, wanted = folder / ".installed", hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*command, "-r", str(requirements)], check=True)
        stamp.write_text(wanted)
    return python


@pytest.fixture
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    """That of the test file's name: `test_saelens.py` asks SAELens by `scripts/saelens.py`."""
    name = request.path.stem.removeprefix("test_")
    python = environment(name)
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

    def ask(action: str, folder: Path, **tensors: Tensor) -> dict[str, Tensor]:
        given, answer = tmp_path / "given.safetensors", tmp_path / "answer.safetensors"
        save_file(tensors, given)
        command = [str(part) for part in (python, HERE / "scripts" / f"{name}.py", action, folder, given, answer)]
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return load_file(answer)

    return ask
