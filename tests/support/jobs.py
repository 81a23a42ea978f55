"""Jobs brought into any state by the real moves, and small true results for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.catalogue import people
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.publish import Uploaded
from clew_lab.catalogue.scope import NOWHERE, Actor
from clew_lab.catalogue.tables import ApiKey, Job, Project
from clew_lab.jobs import accept, cancel, claim, dispatch, finalise, workers
from clew_lab.jobs.needs import NOTHING, Needs
from clew_spec.errors import Problem
from clew_spec.jobs import JobRequest, JobState, Pool
from clew_spec.people import PLATFORM, ProjectChange
from clew_spec.results import DatasetResult, Lineage

GIB = 2**30
OOPS = Problem(type="urn:clew:data-error", title="The dataset cannot be used", status=422, detail="no text")


def job_request(name: str = "text", **fields: Any) -> JobRequest:
    spec = {"kind": "build-dataset", "name": name, "model": "m"}
    return JobRequest.model_validate({"spec": spec, **fields})


def dataset_result(name: str = "text", content: bytes = b"tokens") -> DatasetResult:
    return DatasetResult(
        name=name,
        digest=sha256(content).hexdigest(),
        tokenizer_digest="0" * 64,
        context=8,
        bos="none",
        train_tokens=80,
        heldout_tokens=8,
        n_documents=1,
        source={"kind": "pydoc"},
        files=["dataset/tokens.bin"],
        lineage=Lineage(code_version="test"),
    )


def uploaded(job: Job, fence: int, name: str = "dataset/tokens.bin") -> Uploaded:
    key = f"projects/{job.project_id}/jobs/{job.id}/{fence}/{name}"
    return Uploaded(name, key, "1" * 64, 6, "application/octet-stream")


@dataclass
class Queue:
    """A queue with one project; each method is one transaction."""

    sessions: sessionmaker[Session]
    actor: Actor
    worker_ids: dict[str, UUID] = field(default_factory=dict)

    def accept(
        self, actor: Actor | None = None, needs: Needs = NOTHING, after: Sequence[UUID] = (), **fields: Any
    ) -> Job:
        with self.sessions.begin() as session:
            request, actor = job_request(**fields), actor or self.actor
            return accept.accept(session, actor, accept.Asked(request, "text", needs=needs, after=frozenset(after)))[0]

    def register(
        self, name: str = "w", pool: Pool = "train", memory_bytes: int = 1, device: str = "cpu", **more: Any
    ) -> UUID:
        described = {"device": device, "memory_bytes": memory_bytes, **more}
        with self.sessions.begin() as session:
            self.worker_ids[name] = workers.register(session, name, pool, **described)
        return self.worker_ids[name]

    def dispatch(self, **options: float) -> list[dispatch.Bell]:
        with self.sessions.begin() as session:
            return dispatch.dispatch(session, **({"lease_s": 30, "alive_s": 30} | options))

    def claim(self, job_id: UUID, fence: int, worker: str | None = None) -> Job | None:
        """By the worker of this name, or by the one that was chosen."""
        with self.sessions.begin() as session:
            worker_id = self.worker_ids[worker] if worker else session.get_one(Job, job_id).worker_id
            return claim.claim(session, job_id, fence, worker_id or uuid4(), lease_s=60)

    def claimed(self, job_id: UUID) -> UUID:
        """The job, once its worker has claimed it."""
        assert self.claim(job_id, self.job(job_id).fence) is not None
        return job_id

    def job(self, job_id: UUID) -> Job:
        with self.sessions() as session:
            found = session.get(Job, job_id)
            assert found is not None
            return found

    def lapse(self, job_id: UUID) -> None:
        """Let the job's lease be over."""
        with self.sessions.begin() as session:
            past = text("now() - interval '1 second'")
            session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=past))

    def running(self, **fields: Any) -> Job:
        """A job of its own worker."""
        worker = f"w-{uuid4()}"
        self.register(worker)
        job = self.accept(**fields)
        for bell in self.dispatch():
            self.claim(bell.job_id, bell.fence)
        return self.job(job.id)

    def bring(self, state: JobState, **fields: Any) -> Job:
        """A fresh job, alone in the queue, in this state."""
        if state is JobState.QUEUED:
            return self.accept(**fields)
        if state is JobState.BLOCKED:
            return self.accept(after=[self.accept(name="other").id], **fields)
        if state is JobState.DISPATCHED:
            self.register(f"w-{uuid4()}")
            job = self.accept(**fields)
            self.dispatch()
            return self.job(job.id)
        job = self.running(**fields)
        with self.sessions.begin() as session:
            if state is JobState.SUCCEEDED:
                finalise.succeed(session, job.id, job.fence, dataset_result(), [uploaded(job, job.fence)])
            elif state is JobState.FAILED:
                finalise.fail(session, job.id, job.fence, OOPS, retryable=False)
            elif state is JobState.CANCELLED:
                cancel.cancel(session, self.actor, job.id)
                finalise.cancelled(session, job.id, job.fence)
        return self.job(job.id)

    def clear(self) -> None:
        """Forget every job and worker."""
        with self.sessions.begin() as session:
            session.execute(
                text(
                    "truncate jobs, workers, attempts, events, metrics, artifacts, "
                    "models, datasets, coders, graphs, audit, usage, standings, queues, batches, dependencies"
                )
            )
        self.worker_ids.clear()


def change_project(session: Session, project_id: UUID, **changes: Any) -> None:
    """As an admin of the lab does."""
    chief = Actor(NOWHERE, "", None, None, permissions=PLATFORM)
    people.change_project(session, chief, project_id, ProjectChange(**changes))


def make_actor(sessions: sessionmaker[Session], name: str) -> Actor:
    with sessions.begin() as session:
        project = Project(name=name)
        session.add(project)
        session.flush()
        key = ApiKey(project_id=project.id, name="key", hint="0000", digest=uuid4().hex)
        session.add(key)
        session.flush()
        return Actor(project.id, name, key.id, "key")


@pytest.fixture
def queue(database_url: str) -> Iterator[Queue]:
    engine = make_engine(database_url, pool_size=20)
    sessions = session_factory(engine)
    yield Queue(sessions, make_actor(sessions, "main"))
    engine.dispose()


def dispatched(queue: Queue) -> list[UUID]:
    return [bell.job_id for bell in queue.dispatch()]


def needing(gib: float) -> Needs:
    return Needs(gpu_memory=int(gib * GIB), ram_alone=int(gib * GIB))
