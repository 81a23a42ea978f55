"""`python -m clew_scheduler`: hand out jobs until SIGTERM."""

import signal
import threading

from clew_lab import logs, monitoring
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.jobs.broker import make_app
from clew_lab.settings import settings
from clew_lab.storage import Store
from clew_scheduler.loop import Scheduler, log
from clew_scheduler.release import release_helper
from clew_scheduler.retention import retention_helper
from clew_scheduler.standing import standing_helper


def main() -> None:
    config = settings()
    logs.configure("scheduler", config)
    sessions = session_factory(make_engine(config.database_url.get_secret_value()))
    scheduler = Scheduler(config, sessions, make_app(config.redis_url.get_secret_value()))
    store, stop = Store.of(config), threading.Event()

    def end(*_: object) -> None:
        scheduler.stop()
        stop.set()

    monitoring.serve(config)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    for helper in (
        release_helper(sessions, store, config),
        standing_helper(sessions, alive_s=config.alive_s, every_s=config.standing_s),
        retention_helper(
            sessions, store, after_s=config.keep_leftovers_s, checkpoints_after_s=config.keep_checkpoints_s
        ),
    ):
        helper.start(stop)
    log.info("started")
    scheduler.run()
    log.info("stopped")


if __name__ == "__main__":
    main()
