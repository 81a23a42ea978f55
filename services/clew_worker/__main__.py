"""`python -m clew_worker --pool train|circuits`: a worker that is started again when it falls over."""

import sys

from clew_lab import logs
from clew_worker.supervisor.arguments import parse
from clew_worker.supervisor.process import hide
from clew_worker.supervisor.watch import Watch, command


def main() -> int:
    hide()
    arguments = parse()  # a wrong command line ends here, and not over and over
    logs.configure(f"worker-{arguments.pool}-watch")
    return Watch(command(sys.argv[1:])).run()


if __name__ == "__main__":
    sys.exit(main())
