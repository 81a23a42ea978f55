"""`python -m clew_worker.supervisor`: one worker, without the watch of `python -m clew_worker` over it."""

import sys

from clew_lab import logs
from clew_lab.settings import settings
from clew_worker.supervisor.app import consume
from clew_worker.supervisor.arguments import parse
from clew_worker.supervisor.worker import Worker


def main() -> int:
    arguments = parse()
    logs.configure(f"worker-{arguments.pool}")
    worker = Worker(settings(), arguments.pool, arguments.name, arguments.device)
    worker.start()
    try:
        return consume(worker)
    finally:
        worker.close()


if __name__ == "__main__":
    sys.exit(main())
