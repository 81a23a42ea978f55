"""The Celery worker: one thread that takes one bell at a time."""

from typing import Any
from uuid import UUID

from celery import Celery, bootsteps, signals

from clew_lab.jobs.broker import TASK, make_app
from clew_worker.supervisor.task import run_job
from clew_worker.supervisor.worker import Worker


def consume(worker: Worker) -> int:
    """Serve bells until SIGTERM, which drains. Returns the exit code."""
    app = make_app(worker.settings.redis_url.get_secret_value(), worker=worker.name)

    def answer(job_id: str, fence: int) -> None:
        run_job(worker, UUID(job_id), fence)

    def drain(**_: object) -> None:
        worker.drain()

    app.task(answer, name=TASK)
    app.steps["consumer"].add(Tick)
    signals.setup_logging.connect(_keep_our_logging, weak=False)
    signals.worker_shutting_down.connect(drain, weak=False)
    code = _serve(app, worker)
    return code if worker.left_with is None else worker.left_with


def _serve(app: Celery, worker: Worker) -> int:
    celery_worker = app.Worker(
        hostname=f"{worker.name}@clew",
        pool_cls="threads",
        concurrency=1,
        queues=[queue.name for queue in app.conf.task_queues],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    celery_worker.start()
    return int(celery_worker.exitcode or 0)


class Tick(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Turns the consumer's loop now and then.

    A worker that takes nothing ahead of its capacity looks for messages only when its loop turns, and a task that ends
    in a thread does not turn it: the next bell would lie in Redis until some timer fires, up to 10 seconds.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    seconds = 0.25

    def start(self, consumer: Any) -> None:
        consumer.timer.call_repeatedly(self.seconds, lambda: None)


def _keep_our_logging(**_: object) -> None:
    """That someone listens keeps Celery from setting up logging of its own."""
