"""How much memory a worker's jobs can have and how many CPUs, and with whom they share them."""

import os
import socket
import subprocess
from pathlib import Path


def memory_bytes(device: str) -> int:
    """Of the GPU, else of the machine as far as this process may use it; 0 where it cannot be told."""
    kind, _, index = device.partition(":")
    return _of_gpu(index) if kind == "cuda" else _of_machine()


def cpus() -> int:
    """Of the machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0


def machine(named: str | None = None) -> str:
    """By what workers that share CPUs and memory know each other: as it is named, else the kernel that runs here.

    Containers have hostnames of their own, and one kernel all the same.
    """
    try:
        return named or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def gpu_uuid(device: str) -> str | None:
    """By what workers of one GPU know each other; None of the CPU, or where it cannot be told."""
    kind, _, index = device.partition(":")
    return _asked_of_gpu("uuid", index) if kind == "cuda" else None


def _of_gpu(index: str) -> int:
    try:
        return int(_asked_of_gpu("memory.total", index) or 0) * 2**20
    except ValueError:
        return 0


def _asked_of_gpu(what: str, index: str) -> str | None:
    """By its number in the order of the bus, as the runner counts, too; the first that CUDA may see if not given."""
    index = index or os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    query = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", f"--id={index}"]
    try:
        return subprocess.check_output(query, text=True, timeout=10).split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def _of_machine(root: Path = Path("/")) -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(root)])


def _limits(root: Path) -> list[int]:
    """What control groups allow, of versions 1 and 2: a container's limit lies in one of those that it is in."""
    found = []
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        mounted, file = root / "sys/fs/cgroup", "memory.max"
        if controllers:
            mounted, file = mounted / "memory", "memory.limit_in_bytes"
        if controllers and "memory" not in controllers.split(","):
            continue
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            try:
                found.append(int((mounted / group / file).read_text()))
            except (OSError, ValueError):  # not there, or `max`
                continue
    return found
