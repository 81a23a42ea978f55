"""What a worker says of its memory is what its jobs can have."""

import os
from pathlib import Path

import pytest

from clew_worker.supervisor import memory
from clew_worker.supervisor.memory import _of_machine, gpu_uuid, memory_bytes

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine(root: Path, membership: str, limits: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": membership, **limits}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "1048576\n"}, 1048576),
        ("0::/a/b\n", {"sys/fs/cgroup/a/memory.max": "4096\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 4096),
        ("0::/a\n", {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/b/memory.max": "1\n"}, PHYSICAL),
        (
            "5:cpu,cpuacct:/a\n4:memory:/docker/x\n0::/\n",
            {"sys/fs/cgroup/memory/memory.limit_in_bytes": "8192\n", "sys/fs/cgroup/cpu/memory.limit_in_bytes": "1"},
            8192,
        ),
        ("4:memory:/\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, PHYSICAL),
    ],
)
def test_a_containers_limit_is_its_memory(
    tmp_path: Path, membership: str, limits: dict[str, str], expected: int
) -> None:
    assert _of_machine(machine(tmp_path, membership, limits)) == expected
    assert _of_machine(tmp_path / "elsewhere") == PHYSICAL


def test_a_gpus_memory_is_asked_of_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert memory_bytes("cuda:1") == 0, "no driver, so it cannot be told"
    driver = tmp_path / "nvidia-smi"
    driver.write_text('#!/bin/sh\ncase "$*" in *--id=1) echo 40960;; *--id=0) echo 81920;; *) exit 6;; esac\n')
    driver.chmod(0o755)
    assert memory_bytes("cuda:1") == 40960 * 2**20
    assert memory_bytes("cuda") == 81920 * 2**20
    assert memory_bytes("cuda:7") == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert memory_bytes("cuda") == 40960 * 2**20
    assert 0 < memory_bytes("cpu") <= PHYSICAL


def test_workers_of_one_gpu_and_of_one_kernel_know_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever number, and whatever the host is called in their containers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_uuid("cuda:1") is None, "no driver, so it cannot be told"
    driver = tmp_path / "nvidia-smi"
    driver.write_text('#!/bin/sh\ncase "$*" in *=uuid*--id=[01]) echo "GPU-${*##*=}";; *) exit 6;; esac\n')
    driver.chmod(0o755)
    assert gpu_uuid("cuda") == gpu_uuid("cuda:0") == "GPU-0"
    assert gpu_uuid("cuda:1") == "GPU-1"
    assert gpu_uuid("cpu") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert gpu_uuid("cuda") == "GPU-1"
    here = memory.machine()
    assert here
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert memory.machine() == here
    assert memory.machine("rack-1") == "rack-1"
