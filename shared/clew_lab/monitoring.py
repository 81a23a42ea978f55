"""What Prometheus is shown: counts and ages, never a name, a project or a prompt."""

from collections.abc import Iterable, Iterator
from typing import get_args

import structlog
from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.settings import Settings
from clew_spec.jobs import TERMINAL, JobState, Pool

log = structlog.get_logger("clew_lab.monitoring")
WAITING = tuple(state.value for state in JobState if state not in TERMINAL)

_JOBS = text("""
    select pool, state, count(*), extract(epoch from now() - min(updated_at))::float8
    from jobs where state in ('blocked', 'queued', 'dispatched', 'running') group by pool, state
""")
_WORKERS = text("""
    select pool, case when draining then 'draining'
        when exists (select from jobs where state = 'running' and worker_id = workers.id) then 'busy' else 'free' end,
        count(*)
    from workers where beat_at > now() - make_interval(secs => :alive_s) group by 1, 2
""")
_ATTEMPTS = text("select outcome, count(*) as ended from attempts where outcome is not null group by outcome")
OUTCOMES = ("succeeded", "failed", "cancelled", "preempted", "lost")


class LabCollector(Collector):
    """The queue and the workers of the whole lab, asked of Postgres at each scrape: every replica tells the same.

    Where Postgres does not answer, `clew_database_up` is 0 and the others are left out.
    """

    def __init__(self, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._sessions = sessions
        self._alive_s = settings.alive_s

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            with self._sessions() as session:
                found = list(self._of_the_lab(session))
        except SQLAlchemyError as error:
            log.warning("not_collected", error=type(error).__name__)
            found = []
        yield GaugeMetricFamily("clew_database_up", "Whether Postgres answered this scrape.", float(bool(found)))
        yield from found

    def _of_the_lab(self, session: Session) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("clew_jobs", "Jobs that have not ended.", labels=["pool", "state"])
        oldest = GaugeMetricFamily(
            "clew_oldest_waiting_seconds", "For how long the job at the end of the line has waited.", labels=["pool"]
        )
        counted = {(pool, state): (count, age) for pool, state, count, age in session.execute(_JOBS)}
        for pool in get_args(Pool):
            for state in WAITING:
                jobs.add_metric([pool, state], counted.get((pool, state), (0, 0.0))[0])
            oldest.add_metric([pool], counted.get((pool, JobState.QUEUED.value), (0, 0.0))[1])
        yield jobs
        yield oldest
        workers = GaugeMetricFamily("clew_workers", "Workers whose beat is fresh.", labels=["pool", "doing"])
        there = {(pool, doing): n for pool, doing, n in session.execute(_WORKERS, {"alive_s": self._alive_s})}
        for pool in get_args(Pool):
            for doing in ("free", "busy", "draining"):
                workers.add_metric([pool, doing], there.get((pool, doing), 0))
        yield workers
        attempts = CounterMetricFamily(
            "clew_attempts",
            "Attempts that have ended; `lost` ones lost their lease or their runner.",
            labels=["outcome"],
        )
        ended = {row.outcome: row.ended for row in session.execute(_ATTEMPTS)}
        for outcome in OUTCOMES:
            attempts.add_metric([outcome], ended.get(outcome, 0))
        yield attempts


def serve(settings: Settings) -> None:
    """Show this process's metrics at `metrics_port`, in a thread; nothing where no port is set."""
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, settings.metrics_host)
        log.info("metrics", host=settings.metrics_host, port=settings.metrics_port)
