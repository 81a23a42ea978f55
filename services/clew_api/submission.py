"""What is asked for, resolved and weighed: the same for a job that is submitted and for one that is only considered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple, TypeVar
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy.exc import OperationalError, TimeoutError
from sqlalchemy.orm import Session

from clew_api.lab import Lab
from clew_api.together import Together
from clew_lab.catalogue import queries, refs
from clew_lab.catalogue.finding import Resolved
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Artifact
from clew_lab.jobs import dependents
from clew_lab.jobs.accept import Asked, accept
from clew_lab.jobs.estimates import estimate_job, facts_of, require_fit
from clew_lab.jobs.needs import needs_of
from clew_lab.jobs.quotas import require_space
from clew_spec.api import EstimateView, JobView
from clew_spec.batches import references
from clew_spec.errors import ClewError
from clew_spec.estimates import Estimate, Facts
from clew_spec.jobs import JobKind, JobRequest, JobSpec

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Submission:
    actor: Actor
    request: JobRequest
    idempotency_key: str | None = None
    request_id: str | None = None


class Accepted(NamedTuple):
    job: JobView
    created: bool
    """False of a job that there was already."""


Submissions = Together[tuple[Actor, JobKind], Submission, Accepted]


async def _submissions(request: Request) -> Submissions:
    found: Submissions = request.app.state.submissions
    return found


SubmissionsDep = Annotated[Submissions, Depends(_submissions)]


@dataclass(frozen=True)
class Text:
    """What a spec's text is to the model's tokenizer: nothing but that it is right, or how long."""

    tokens: int | None


Answer = Callable[[Session, Q, Text | None], A]
"""Of a question, in a transaction that others may share. The text is None until it is read."""


def accepted(lab: Lab, submissions: Sequence[Submission]) -> list[Accepted | Exception]:
    """Jobs, queued and committed, or why each is not.

    Errors are those of `weighed`, of `accept`, and of a project over its quota.
    """
    return _answers(lab, submissions, partial(_accept, lab))


def considered(lab: Lab, actor: Actor, request: JobRequest) -> EstimateView:
    """What the job would take. Raises `InvalidSpec` where its references name nothing, or do not fit each other."""

    def consider(session: Session, one: JobRequest, text: Text | None) -> EstimateView:
        waits = waiting(session, actor, one)
        return unseen(waits.name) if waits else _estimated(lab, session, actor, one, text)[2]

    return _answer(lab, request, consider)


def weighed(lab: Lab, actor: Actor, request: JobRequest) -> tuple[Asked, int]:
    """The job to be queued: what its references mean, and what it needs of a worker.

    And the bytes that it would publish, as far as they are known. Raises as above, and where no live worker has what
    the job needs.
    """
    return _answer(lab, request, lambda session, one, text: _weigh(lab, session, actor, one, text))


def waiting(
    session: Session, actor: Actor, request: JobRequest, *, after: frozenset[UUID] = frozenset(), name: str = ""
) -> Asked | None:
    """The job, where it has to wait for others, checked as far as can be known before they end; else None.

    after: ids of jobs that are yet to be submitted. name: of a job whose spec has none.
    """
    if not any(map(dependents.job_of, references(request.spec).values())):
        return None
    found = dependents.unfinished(session, actor, request.spec, after)
    if not found:
        return None
    dependents.check_others(session, actor, request.spec, frozenset(found))
    name = getattr(request.spec, "name", None) or name or next(iter(found.values()))
    return Asked(request, name, after=frozenset(found))


def unseen(name: str) -> EstimateView:
    """What is known of a job that waits for others: nothing yet."""
    why = f"what {name} refers to is yet to be made"
    every = ("memory", "disk", "flops", "tokens", "time_s")
    return EstimateView(estimate=Estimate.of(unknown=dict.fromkeys(every, why)), workers=[], fits=True, reason=why)


def _accept(lab: Lab, session: Session, one: Submission, text: Text | None) -> Accepted:
    """Nothing is written before all is checked: what is refused leaves no trace in the transaction of the others."""
    actor, request = one.actor, one.request
    earlier = one.idempotency_key and queries.job_of_idempotency_key(session, actor, one.idempotency_key)
    if earlier:  # all that is asked below was settled then
        asked = Asked(request, earlier.name, earlier.inputs)
    else:
        asked, published_bytes = _weigh(lab, session, actor, request, text)
        require_space(session, actor, published_bytes)
    job, created = accept(
        session,
        actor,
        asked,
        idempotency_key=one.idempotency_key,
        request_id=one.request_id,
        code_version=lab.settings.code_version,
    )
    known = created and not asked.after
    return Accepted(queries.new_job(actor, job) if known else queries.get_job(session, actor, job.id), created)


def _weigh(lab: Lab, session: Session, actor: Actor, request: JobRequest, text: Text | None) -> tuple[Asked, int]:
    if waits := waiting(session, actor, request):
        return waits, 0
    resolved, facts, found = _estimated(lab, session, actor, request, text)
    require_fit(request, facts, found)
    disk = found.estimate.disk
    needs = needs_of(request.spec, facts, request.requests)
    return Asked(request, resolved.name, resolved.inputs, needs), disk.published_bytes if disk else 0


def _estimated(
    lab: Lab, session: Session, actor: Actor, request: JobRequest, text: Text | None
) -> tuple[Resolved, Facts, EstimateView]:
    """Raises `_Unread` where the spec has a text and `text` is None."""
    resolved = refs.resolve(session, actor, request.spec, import_roots=lab.settings.import_roots)
    if resolved.tokenizer is not None and text is None:
        raise _Unread(request.spec, resolved, resolved.tokenizer)
    facts = facts_of(session, resolved.inputs, prompt_tokens=text.tokens if text else None)
    return (
        resolved,
        facts,
        estimate_job(session, actor, request, resolved.inputs, facts, alive_s=lab.settings.alive_s),
    )


class _Unread(Exception):
    """The spec's text has to be read first. No connection to Postgres waits for the object store."""

    def __init__(self, spec: JobSpec, resolved: Resolved, tokenizer: Artifact) -> None:
        self._spec = spec
        self._resolved = resolved
        self._tokenizer = tokenizer

    def read(self, lab: Lab) -> Text:
        return Text(refs.check_text(self._spec, self._resolved, lab.tokenizers.get(self._tokenizer)))


def _answer(lab: Lab, question: Q, answer: Answer[Q, A]) -> A:
    (found,) = _answers(lab, [question], answer)
    if isinstance(found, Exception):
        raise found
    return found


def _answers(lab: Lab, questions: Sequence[Q], answer: Answer[Q, A]) -> list[A | Exception]:
    """In one transaction; those of them that have a text once more, when it has been read."""
    found = _in_transaction(lab, [(one, None) for one in questions], answer)
    for index, unread in enumerate(found):
        if isinstance(unread, _Unread):
            try:
                (found[index],) = _in_transaction(lab, [(questions[index], unread.read(lab))], answer)
            except Exception as error:  # what the others were answered stands
                found[index] = error
    return found


def _in_transaction(lab: Lab, questions: Sequence[tuple[Q, Text | None]], answer: Answer[Q, A]) -> list[A | Exception]:
    """Answers to all questions, in one transaction; each in its own, where one of them spoils it for the others.

    Raises what is nobody's fault: that Postgres cannot be asked, or did not confirm what was committed.
    """

    def caught(session: Session, one: Q, text: Text | None) -> A | Exception:
        try:
            return answer(session, one, text)
        except (ClewError, _Unread) as error:
            return error

    with lab.sessions() as session:
        try:
            answers = [caught(session, *one) for one in questions]
            session.flush()
        except (OperationalError, TimeoutError):
            raise
        except Exception as error:
            if len(questions) == 1:
                return [error]
        else:
            session.commit()
            return answers
    answers = []
    for one in questions:
        try:
            answers += _in_transaction(lab, [one], answer)
        except Exception as error:  # what the others were answered stands
            answers.append(error)
    return answers
