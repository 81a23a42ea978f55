"""`python -m clew_scheduler`: hand out jobs until SIGTERM."""

import signal
import threading

from clew_lab import logs, monitoring
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.jobs.broker import make_app
from clew_lab.settings import settings
from clew_lab.storage import Store
from clew_scheduler.loop import Scheduler, log
from clew_scheduler.release import release_until
from clew_scheduler.retention import sweep_until
from clew_scheduler.standing import look_until


def main() -> None:
    config = settings()
    logs.configure("scheduler", config)
    sessions = session_factory(make_engine(config.database_url.get_secret_value()))
    scheduler = Scheduler(config, sessions, make_app(config.redis_url.get_secret_value()))
    stop = threading.Event()

    def end(*_: object) -> None:
        scheduler.stop()
        stop.set()

    monitoring.serve(config)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    threading.Thread(
        target=sweep_until,
        args=(stop, sessions, Store.of(config)),
        kwargs={"after_s": config.keep_leftovers_s, "checkpoints_after_s": config.keep_checkpoints_s},
        name="retention",
        daemon=True,
    ).start()
    threading.Thread(
        target=look_until,
        args=(stop, sessions),
        kwargs={"alive_s": config.alive_s, "every_s": config.standing_s},
        name="standing",
        daemon=True,
    ).start()
    threading.Thread(
        target=release_until, args=(stop, sessions, Store.of(config), config), name="release", daemon=True
    ).start()
    log.info("started")
    scheduler.run()
    log.info("stopped")


if __name__ == "__main__":
    main()
