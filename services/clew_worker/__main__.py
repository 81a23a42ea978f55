"""`python -m clew_worker --pool train|circuits|all`: workers that are started again when they fall over."""

import sys

from clew_spec.errors import ClewError
from clew_worker import fleet


def main() -> int:
    try:
        workers = fleet.parse()  # a wrong command line ends here, and not over and over
    except ClewError as error:
        print(f"clew_worker: {error}", file=sys.stderr)
        return 2
    return fleet.serve(workers)


if __name__ == "__main__":
    sys.exit(main())
