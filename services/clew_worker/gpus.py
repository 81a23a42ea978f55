"""Which GPUs this machine has. nvidia-smi tells: no process but a runner loads CUDA."""

import os
import subprocess
from collections.abc import Iterator

from clew_spec.errors import InvalidSpec, Unavailable

QUERY = ("nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")


def chosen(asked: str) -> list[int]:
    """GPUs that are asked for: `auto` is all that are here, `none` is none, `0,2` are those two.

    Raises `InvalidSpec` for words that name no GPU, `Unavailable` for a GPU that is not here.
    """
    if asked == "none":
        return []
    here = found()
    if asked == "auto":
        return here
    try:
        wanted = [int(word) for word in asked.split(",")]
    except ValueError:
        wanted = []
    if not wanted or len(set(wanted)) < len(wanted) or min(wanted) < 0:
        raise InvalidSpec(f"{asked!r} names no GPUs", where="--gpus", expected="`auto`, `none` or numbers as in `0,1`")
    if missing := sorted(set(wanted) - set(here)):
        there = f"nvidia-smi tells of {', '.join(map(str, here))}" if here else "nvidia-smi tells of none"
        raise Unavailable(f"there is no GPU {', '.join(map(str, missing))} here", hint=there)
    return wanted


def found() -> list[int]:
    """Numbers in the order of the bus, without what CUDA_VISIBLE_DEVICES hides; empty where there is no GPU."""
    try:
        lines = subprocess.check_output(QUERY, text=True, timeout=30).splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    uuids = {}
    for line in lines:
        index, _, uuid = line.partition(",")
        if index.strip().isdecimal():
            uuids[int(index)] = uuid.strip()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(uuids) if visible is None else list(_visible(visible, uuids))


def _visible(words: str, uuids: dict[int, str]) -> Iterator[int]:
    """As CUDA reads that variable: numbers or the beginnings of UUIDs; what comes after one that is none is hidden."""
    for word in map(str.strip, words.split(",")):
        matches = [number for number, uuid in uuids.items() if word == str(number) or (word and uuid.startswith(word))]
        if not matches:
            return
        yield matches[0]
