"""The peers' virtual environments, made when first needed."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
STAMP = ".installed"


def python_of(peer: str, cache: Path) -> Path:
    """The interpreter of `peer`, with what `peers/{peer}.txt` pins installed; made anew when that changes.

    Raises CalledProcessError where an installation fails; what was begun is then made anew the next time.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    folder = cache / peer
    python = folder / "bin" / "python"
    stamp = folder / STAMP
    wanted = f"{sys.version}\n{hashlib.sha256(requirements.read_bytes()).hexdigest()}\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", requirements], check=True)
    stamp.write_text(wanted)
    return python
