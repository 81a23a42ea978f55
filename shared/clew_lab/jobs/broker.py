"""The bell: Celery over Redis, carrying `(job_id, fence)` to the queue of the chosen worker and nothing else.

Messages are acknowledged when they are received and never run again by the broker: Postgres decides that. A lost
bell's lease lapses and it is rung again; a doubled one finds nothing to claim. Needs the extra `queue`.
"""

from typing import Final

from celery import Celery
from kombu import Queue
from kombu.exceptions import KombuError
from redis import RedisError

from clew_lab.jobs.dispatch import Bell
from clew_spec.errors import Unavailable

TASK: Final = "clew.run_job"


def queue_of(worker: str) -> Queue:
    """Where the worker of this name hears its bells. A queue a pool would not do: who has room was decided already."""
    return Queue(f"worker.{worker}")


def make_app(redis_url: str, *, worker: str | None = None) -> Celery:
    """The Celery application of the scheduler, or of the worker of this name."""
    app = Celery("clew", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_ignore_result=True,
        result_backend=None,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=False,
        task_queues=[queue_of(worker)] if worker is not None else [],
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_concurrency=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 120,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_retries": 3,
            "global_keyprefix": "clew:",
        },
    )
    return app


def ring(app: Celery, bell: Bell) -> None:
    """Tell the worker. Raises `Unavailable` where Redis does not answer.

    No bell expires: that would be judged by the clocks of two machines, and a stale one finds nothing to claim.
    """
    try:
        app.send_task(
            TASK,
            args=(str(bell.job_id), bell.fence),
            task_id=f"{bell.job_id}.{bell.fence}",
            queue=queue_of(bell.worker),
            retry=False,
        )
    except (KombuError, RedisError, OSError) as error:
        raise Unavailable(f"Redis does not answer: {type(error).__name__}") from error
