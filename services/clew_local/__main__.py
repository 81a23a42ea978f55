"""The supervising process of `clew up --detach`: `python -m clew_local DATA [--port N] [--device D]`."""

import argparse
import sys
from pathlib import Path

from clew_local.commands import supervise
from clew_spec.errors import ClewError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m clew_local", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    try:
        supervise(arguments.data, arguments.port, arguments.device)
    except ClewError as error:
        print(f"clew: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
