"""`python -m tests.support.powerless MODULE ARGUMENT...`: as root, run a module without root's powers over other files
and processes, which its children do not get back; as any other user, just run it.
"""

import ctypes
import runpy
import sys

_PR_CAPBSET_DROP, _VERSION_3 = 24, 0x20080522


def give_up_powers() -> None:
    libc = ctypes.CDLL(None)
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.capset((ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)())


if __name__ == "__main__":
    give_up_powers()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
