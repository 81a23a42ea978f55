"""What became of every accepted job: the account that is drawn when all is quiet again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.catalogue.tables import Artifact, Attempt, Dataset, Event, Job, Metric
from clew_lab.storage import Store, object_key
from clew_spec.errors import NotFound
from clew_spec.jobs import MOVES, JobState

ARTIFACT = "dataset/steps.txt"


@dataclass(frozen=True)
class Asked:
    """What was asked of one job, and the ids that were given for it: one, however often it was asked."""

    steps: int
    ids: set[UUID] = field(default_factory=set)
    cancel: bool = False


@dataclass
class Ledger:
    accepted: int = 0
    terminal: int = 0
    lost: int = 0
    """Accepted, and not ended when all had had time to."""
    wrong: int = 0
    """What is seen is not what the holder of the last fence made, or not whole, or not what was asked for."""
    duplicated: int = 0
    """Ended twice, published twice, or two jobs where one was asked for."""
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted} terminal {self.terminal} lost {self.lost} wrong {self.wrong} "
            f"duplicated {self.duplicated}"
        )

    @property
    def clean(self) -> bool:
        return self.accepted == self.terminal and not (self.lost or self.wrong or self.duplicated)


def account(sessions: sessionmaker[Session], store: Store, asked: Sequence[Asked], project_id: UUID) -> Ledger:
    """asked: of every job that was accepted."""
    ledger = Ledger(accepted=len(asked))
    ours = {id for one in asked for id in one.ids}
    with sessions() as session:
        for one in asked:
            found = list(_findings(session, store, one))
            ledger.findings += [f"{count}: job {min(one.ids)}: {what}" for count, what in found]
            counts = {count for count, _ in found}
            ledger.terminal += "lost" not in counts
            ledger.lost += "lost" in counts
            ledger.wrong += "wrong" in counts
            ledger.duplicated += "duplicated" in counts
        others = session.scalars(
            select(Job.id).where(Job.project_id == project_id, Job.idempotency_key.is_not(None), Job.id.not_in(ours))
        ).all()
    ledger.duplicated += len(others)
    ledger.findings += [f"duplicated: nobody was told of job {id}" for id in others]
    return ledger


def _findings(session: Session, store: Store, asked: Asked) -> Iterator[tuple[str, str]]:
    if len(asked.ids) != 1:
        yield "duplicated", f"one request became the jobs {sorted(map(str, asked.ids))}"
    job = session.get(Job, min(asked.ids))
    if job is None:
        yield "lost", "it is not there"
        return
    state = JobState(job.state)
    if not state.terminal:
        yield "lost", f"it is {state.value}"
    events = session.scalars(select(Event).where(Event.job_id == job.id)).all()
    attempts = session.scalars(select(Attempt).where(Attempt.job_id == job.id)).all()
    yield from story(job, events, attempts)
    yield from _series(session, job)
    artifacts = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
    records = session.scalars(select(Dataset).where(Dataset.job_id == job.id)).all()
    if len(artifacts) > 1 or len(records) > 1:
        yield "duplicated", f"{len(artifacts)} artifacts and {len(records)} records"
    if state is JobState.SUCCEEDED:
        if not artifacts or not records:
            yield "wrong", f"{len(artifacts)} artifacts and {len(records)} records"
            return
        yield from _result(session, store, job, asked, artifacts[0], records[0])
    else:
        if state.terminal and not (state is JobState.CANCELLED and asked.cancel):
            yield "wrong", f"it {state.value}: {job.error}"
        if artifacts or records or job.result is not None:
            yield "wrong", f"it is {state.value} and has published"


def story(job: Job, events: Iterable[Event], attempts: Iterable[Attempt]) -> Iterator[tuple[str, str]]:
    """What is amiss with its events (no hole, only moves of `MOVES`, one end) and its attempts (one goes on or won)."""
    state = JobState(job.state)
    events = sorted(events, key=lambda event: event.seq)
    if [event.seq for event in events] != list(range(1, job.last_seq + 1)):
        yield "wrong", "its events have holes"
    moves = [event.data for event in events if event.type == "state" and event.data["state"] != event.data["from"]]
    for earlier, later in pairwise(moves):
        known = JobState(later["state"]) in MOVES[JobState(later["from"])]
        if later["from"] != earlier["state"] or not known:
            yield "wrong", f"after {earlier['state']} it went from {later['from']} to {later['state']}"
    ends = [move["state"] for move in moves if JobState(move["state"]).terminal]
    if len(ends) > 1:
        yield "duplicated", f"it ended {len(ends)} times: {', '.join(ends)}"
    if moves[-1]["state"] != state:
        yield "wrong", f"it is {state.value}, and its last event says {moves[-1]['state']}"
    attempts = list(attempts)
    won = [attempt.fence for attempt in attempts if attempt.outcome == "succeeded"]
    if len(won) > 1:
        yield "duplicated", f"the attempts {won} succeeded"
    if won != ([job.fence] if state is JobState.SUCCEEDED else []):
        yield "wrong", f"it is {state.value} under fence {job.fence}, and the attempts {won} succeeded"
    going_on = [attempt.fence for attempt in attempts if attempt.ended_at is None]
    if going_on != ([job.fence] if state is JobState.RUNNING else []):
        yield "wrong", f"it is {state.value} under fence {job.fence}, and the attempts {going_on} go on"


def _series(session: Session, job: Job) -> Iterator[tuple[str, str]]:
    shown = session.execute(select(Metric.name, Metric.step).where(Metric.job_id == job.id, ~Metric.hidden)).all()
    if len(set(shown)) < len(shown):
        yield "wrong", "of some steps two points are shown"


def _result(
    session: Session, store: Store, job: Job, asked: Asked, artifact: Artifact, record: Dataset
) -> Iterator[tuple[str, str]]:
    """Bytes as they were announced, of the attempt that holds the last fence, and of every step once."""
    key = object_key(job.project_id, job.id, job.fence, ARTIFACT)
    if (artifact.fence, artifact.key) != (job.fence, key):
        yield "wrong", f"the file of fence {job.fence} is {artifact.key} of fence {artifact.fence}"
    try:
        content = store.read(artifact.key)
    except NotFound:
        yield "wrong", f"{artifact.key} is gone"
        return
    if sha256(content).hexdigest() != artifact.sha256 or len(content) != artifact.size:
        yield "wrong", "the bytes are not those that were published"
    lines = content.decode().splitlines()
    if sha256("".join(lines).encode()).hexdigest() != record.digest:
        yield "wrong", "the record is not of these bytes"
    steps, fences, _ = zip(*(map(int, line.split()) for line in lines), strict=True)
    if list(steps) != list(range(1, asked.steps + 1)):
        yield "wrong", f"its steps are {steps}"
    began = session.scalars(select(Attempt.fence).where(Attempt.job_id == job.id)).all()
    if list(fences) != sorted(fences) or not set(fences) <= set(began):
        yield "wrong", f"its steps were made under the fences {fences}, of attempts {sorted(began)}"
    resumed = (job.checkpoint or {}).get("step") == asked.steps
    if fences[-1] != job.fence and not resumed:
        yield "wrong", f"its last step was made under fence {fences[-1]}; the last fence is {job.fence}"
