"""One attempt at a job, from its claim to its end.

    prepare -> follow the runner -> conclude

Following ends with `done`, `failed`, `stopped`, the runner's death, or the loss of the lease. Each way to conclude is
one fenced transaction of `clew_lab.jobs.finalise`; a lost lease concludes nothing, for the job is another's by then.
"""

import shutil
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import Session

from clew_lab.catalogue import secrets
from clew_lab.catalogue.publish import Uploaded, published_key
from clew_lab.catalogue.tables import Job
from clew_lab.jobs import report
from clew_lab.jobs.moves import Fenced
from clew_lab.storage import object_key
from clew_spec.errors import ClewError, Unavailable
from clew_spec.runner import EVENTS_FILE, Artifact, Checkpoint, Done, Failed, RunJob, Stopped
from clew_spec.secrets import needed_by
from clew_worker.supervisor.batch import Batch
from clew_worker.supervisor.disk import no_room
from clew_worker.supervisor.endings import Ending, Endings, GivenUp
from clew_worker.supervisor.inputs import run_job
from clew_worker.supervisor.lease import Lease
from clew_worker.supervisor.process import Runner, Stopping
from clew_worker.supervisor.tail import ProtocolError, Tail, hidden
from clew_worker.supervisor.uploads import Uploads
from clew_worker.supervisor.worker import Worker

T = TypeVar("T")
POLL_S = 0.1
FLUSH_S = 0.5
ASK_S = 1.0
"""How often what is asked of the holder is read while the runner has nothing to tell."""
RETRY_S = 1.0
HICCUPS = 5
"""Internal errors of Postgres under one write before they count as its answer."""


class Attempt:
    def __init__(self, worker: Worker, job: Job, *, claimed_at: float) -> None:
        self._worker = worker
        self._settings = worker.settings
        self._job = job
        self._key = (job.id, job.fence)
        self._endings = Endings(job.id, job.fence, max_lost=self._settings.max_lost)
        self._log = structlog.get_logger("clew_worker.attempt")
        self._scratch = worker.folder / "scratch" / f"{job.id}.{job.fence}"
        self._runner: Runner | None = None
        self._stopping: Stopping | None = None
        self._orderly = False
        self._batch = Batch(1)
        self._flush_at = 0.0
        self._ask_at = 0.0
        self._files: list[Uploaded] = []
        self._hidden: frozenset[str] = frozenset()
        """Secrets that the runner was given: nothing that it says is passed on with them in it."""
        self._uploads = Uploads(
            worker.store,
            self._scratch,
            lambda name: object_key(job.project_id, job.id, job.fence, name),
            known=lambda digest, size: self._write(
                lambda session: published_key(session, job.project_id, digest, size)
            ),
            keep_trying=self._while_the_store_is_away,
            patience_s=self._settings.upload_patience_s,
        )
        self._lease = Lease(
            self._renew,
            claimed_at=claimed_at,
            beat_s=self._settings.beat_s,
            fence_after_s=self._settings.fence_after_s,
            on_lost=self._abandon,
        )

    def run(self) -> None:
        """Returns when the attempt is over, the runner ended or idle, and the scratch folder gone."""
        self._log.info("claimed", kind=self._job.kind)
        try:
            with self._lease:
                self._conclude(self._work())
        except Fenced as error:
            self._log.warning("fenced", detail=error.detail)
        finally:
            if self._runner is not None:
                self._worker.runners.give_back(self._runner, orderly=self._orderly)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _work(self) -> Ending:
        try:
            self._scratch.mkdir(mode=0o700, parents=True)
            order = self._write(
                lambda session: run_job(
                    session,
                    self._worker.store,
                    session.get_one(Job, self._job.id),
                    self._settings,
                    scratch=self._scratch,
                    cache=self._worker.folder / "cache",
                    device=self._worker.device,
                )
            )
            given = self._write(lambda session: self._secrets(session, order))
            self._hidden = frozenset(given.values())
            self._runner = self._worker.runners.take(str(self._job.project_id), given)
            self._still_mine()
            self._log.info("runner_started", pid=self._runner.pid, resume_step=order.resume_step)
            self._runner.send(order)
            return self._follow(self._runner, Tail(self._scratch / EVENTS_FILE, self._hidden))
        except Fenced:
            raise
        except GivenUp as given_up:
            return given_up.ending
        except Unavailable as error:
            return self._endings.lost(error.problem())
        except ClewError as error:
            return self._endings.failed(error.problem(), retryable=isinstance(error, ProtocolError))
        except Exception as error:
            self._log.exception("supervisor_failed")
            full = no_room(self._worker.folder)
            return self._endings.lost(full) if full else self._endings.supervisor_failed(error)

    def _secrets(self, session: Session, order: RunJob) -> dict[str, str]:
        secret_key = self._settings.secret_key
        return secrets.opened(session, self._job.project_id, needed_by(order.spec), secret_key=secret_key)

    def _follow(self, runner: Runner, tail: Tail) -> Ending:
        while True:
            self._still_mine()
            alive = runner.alive  # asked before the read: what a dead runner wrote is all there
            events = tail.read()
            for event in events:
                ending = self._take_in(event)
                if ending is not None:
                    self._flush()
                    return ending
            if not alive and not events:
                return self._runner_died(runner)
            if time.monotonic() >= self._flush_at:
                self._flush()
            self._stop_if_told(runner)
            time.sleep(POLL_S)

    def _take_in(self, event: Any) -> Ending | None:
        self._batch.add(event)
        match event:
            case Artifact():
                self._files.append(self._uploads.artifact(event.file))
            case Checkpoint():
                self._flush()
                self._checkpoint(event)
            case Done():
                self._orderly = True
                return self._endings.succeeded(event.result, self._files)
            case Failed() if event.problem.type == f"urn:clew:{Unavailable.code}":
                return self._endings.lost(event.problem)  # a server's fault, not the job's: no retry of its is spent
            case Failed():
                return self._endings.failed(event.problem, retryable=event.retryable)
            case Stopped():
                self._orderly = True
                return self._stopped("the runner stopped without being asked to")
        return None

    def _checkpoint(self, event: Checkpoint) -> None:
        try:
            stored = self._uploads.checkpoint(event.step, event.files)
        except Unavailable:
            raise
        except ClewError as error:  # the one before it stays
            self._batch.log(f"the checkpoint of step {event.step} was not kept: {error}", "warning")
            return
        replaced = self._write(lambda session: report.register_checkpoint(session, *self._key, event.step, stored))
        self._uploads.discard(replaced)

    def _flush(self) -> None:
        batch = self._batch
        self._flush_at = time.monotonic() + FLUSH_S
        if batch.empty and time.monotonic() < self._ask_at:
            return
        self._ask_at = time.monotonic() + ASK_S
        if batch.empty:
            self._lease.orders = self._write(lambda session: report.orders(session, *self._key))
            return
        self._lease.orders = self._write(
            lambda session: report.report(
                session, *self._key, batch.told(), number=batch.number, metrics=batch.metrics, progress=batch.progress
            )
        )
        self._batch = Batch(batch.number + 1)

    def _stop_if_told(self, runner: Runner) -> None:
        orders, settings = self._lease.orders, self._settings
        if orders.cancel and (self._stopping is None or self._stopping.checkpoint):
            self._log.info("cancelling")
            self._stopping = Stopping(
                runner, checkpoint=False, grace_s=settings.kill_grace_s, kill_grace_s=settings.kill_grace_s
            )
        elif self._stopping is not None:
            self._stopping.insist()
        elif orders.preempt or self._worker.draining.is_set():
            self._log.info("preempting", draining=self._worker.draining.is_set())
            self._stopping = Stopping(
                runner, checkpoint=True, grace_s=settings.checkpoint_grace_s, kill_grace_s=settings.kill_grace_s
            )

    def _runner_died(self, runner: Runner) -> Ending:
        if self._stopping is None:
            words = hidden(runner.last_words(), self._hidden)
            if words:
                self._batch.log(words, "error")
        self._flush()
        full = no_room(self._worker.folder)
        if full and self._stopping is None:
            return self._endings.failed(full, retryable=True)
        return self._stopped(f"the runner {runner.how_it_ended()} without a word")

    def _stopped(self, unasked: str) -> Ending:
        if self._stopping is None:
            self._log.warning("runner_lost", detail=unasked)
            return self._endings.runner_lost(unasked)
        return self._preempted() if self._stopping.checkpoint else self._endings.cancelled()

    def _while_the_store_is_away(self) -> None:
        """Between two tries of an upload: the beats go on, and so does what is told and asked."""
        self._still_mine()
        self._flush()
        if self._lease.orders.cancel:
            raise GivenUp(self._endings.cancelled())
        if self._lease.orders.preempt or self._worker.draining.is_set():
            raise GivenUp(self._preempted())

    def _preempted(self) -> Ending:
        return self._endings.preempted(draining=self._worker.draining.is_set())

    def _conclude(self, ending: Ending) -> None:
        try:
            self._write(ending)
        except Fenced:
            raise
        except ClewError as error:  # what it made does not fit its result
            self._write(self._endings.failed(error.problem(), retryable=False))
        except Exception as error:  # trying again would end in the same way, and the job would never end
            self._log.exception("not_recorded")
            self._write(self._endings.not_recorded(error))
        self._log.info("concluded")

    def _write(self, write: Callable[[Session], T]) -> T:
        """One transaction, tried until it is done or the job is not ours any more. Raises `Fenced`."""
        hiccups = 0
        while True:
            self._still_mine()
            try:
                with self._worker.sessions.begin() as session:
                    return write(session)
            except (OperationalError, InterfaceError, InternalError) as error:
                hiccups += isinstance(error, InternalError)
                if hiccups > HICCUPS:
                    raise
                self._log.warning("write_put_off", error=type(error.orig).__name__)
                time.sleep(RETRY_S)

    def _still_mine(self) -> None:
        if self._lease.lost.is_set():
            raise Fenced("the lease was lost")

    def _renew(self) -> report.Orders:
        with self._worker.lease_sessions.begin() as session:
            return report.beat(session, *self._key, lease_s=self._settings.running_lease_s)

    def _abandon(self) -> None:
        """Called by the lease, from a thread of its own, when the job may be another's soon."""
        runner = self._runner
        if runner is not None:
            runner.end(self._settings.kill_grace_s)
