"""`python -m tests.support.small_disk FOLDER BYTES COMMAND...`: a command that finds an empty disk of BYTES at FOLDER.

The disk is in memory, seen by the command and its children alone, and gone with them. Linux only; whoever is not root
needs a kernel that lets users have namespaces: `can_be_made` says.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NODEV, _MS_REC, _MS_PRIVATE = 4, 1 << 14, 1 << 18


def can_be_made() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder, "65536", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def make(folder: Path, size: int) -> None:
    """For this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    user, group = os.geteuid(), os.getegid()
    call("unshare", _CLONE_NEWNS | (_CLONE_NEWUSER if user else 0))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", _MS_NODEV, f"size={size},mode=0755".encode())


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606
