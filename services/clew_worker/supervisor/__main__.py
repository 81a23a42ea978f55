"""`python -m clew_worker.supervisor`: one worker, without the watch of `python -m clew_worker` over it."""

import signal
import sys

import structlog

from clew_lab import logs, monitoring
from clew_lab.settings import settings
from clew_spec.errors import Conflict
from clew_worker.supervisor.app import consume
from clew_worker.supervisor.arguments import parse
from clew_worker.supervisor.exits import NAME_TAKEN
from clew_worker.supervisor.process import hide
from clew_worker.supervisor.worker import Worker


def main() -> int:
    hide()
    arguments = parse()
    logs.configure(f"worker-{arguments.pool}", settings())
    worker = Worker(settings(), arguments.pool, arguments.name, arguments.device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(worker.left_with or 0))  # until Celery listens itself
    try:
        monitoring.serve(settings())
        worker.start()
        return consume(worker)
    except Conflict as error:
        structlog.get_logger("clew_worker").error("refused_to_start", error=str(error))
        return NAME_TAKEN
    finally:
        worker.close()


if __name__ == "__main__":
    sys.exit(main())
