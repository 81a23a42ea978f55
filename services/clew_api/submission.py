"""What is asked for, resolved and weighed: the same for a job that is submitted and for one that is only considered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, NamedTuple, TypeVar
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import Session

from clew_api.lab import Lab
from clew_api.together import Together
from clew_lab.catalogue import identity, queries, refs
from clew_lab.catalogue.engine import once
from clew_lab.catalogue.finding import Resolved
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import Artifact
from clew_lab.jobs import dependents
from clew_lab.jobs.accept import Asked, accept
from clew_lab.jobs.estimates import estimate_job, facts_of, require_fit
from clew_lab.jobs.needs import needs_of
from clew_spec.api import EstimateView, JobView
from clew_spec.batches import references
from clew_spec.errors import ClewError, Forbidden
from clew_spec.estimates import Estimate, Facts
from clew_spec.jobs import JobRequest, JobSpec
from clew_spec.people import Permission

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Text:
    """What a spec's text is to the model's tokenizer: nothing but that it is right, or how long."""

    tokens: int | None


@dataclass(frozen=True)
class Submission:
    credential: str
    """What is stored of the key or the session that asks: it is asked again whose that is when the job is taken in."""
    actor: Actor
    request: JobRequest
    idempotency_key: str | None = None
    request_id: str | None = None
    text: Text | None = None
    """The spec's, once it is read."""


class Accepted(NamedTuple):
    job: JobView
    created: bool
    """False of a job that there was already."""


@dataclass(frozen=True)
class Unread:
    """The spec's text has to be read first. No connection to Postgres waits for the object store."""

    spec: JobSpec
    resolved: Resolved
    tokenizer: Artifact


class Submissions:
    """What is submitted at the same moment with the same key is taken in together; so are texts of one tokenizer read.

    Between the two everyone goes on alone: who has no text, or whose text is read, waits for nobody's.
    """

    def __init__(self, lab: Lab) -> None:
        self._lots = Together[str, Submission, Accepted | Unread](lambda _, lot: accepted(lab, lot))
        self._texts = Together[tuple[str, str], Unread, Text](lambda _, lot: _texts(lab, lot))

    async def ask(self, submission: Submission) -> Accepted:
        """A job, queued and committed. Raises what `accepted` answers, and `Unavailable`."""
        found = await self._lots.ask(submission.credential, submission)
        if isinstance(found, Unread):
            text = await self._texts.ask((submission.credential, found.tokenizer.sha256), found)
            found = await self._lots.ask(submission.credential, replace(submission, text=text))
            assert isinstance(found, Accepted)  # its text is read
        return found

    async def close(self) -> None:
        """Before the lab is closed."""
        await self._texts.close()
        await self._lots.close()


async def _submissions(request: Request) -> Submissions:
    found: Submissions = request.app.state.submissions
    return found


SubmissionsDep = Annotated[Submissions, Depends(_submissions)]

Answer = Callable[[Session, Q], A]
"""Of a question, in a transaction that others may share."""


def accepted(lab: Lab, submissions: Sequence[Submission]) -> list[Accepted | Unread | Exception]:
    """Jobs, queued and committed, or why each is not.

    Errors are those of `weighed` and of `accept`, and `NotAuthenticated` or `Forbidden` where who asked may no longer.
    """
    # In the order of their keys: two lots that insert the same ones do not wait for each other in a circle.
    order = sorted(range(len(submissions)), key=lambda index: submissions[index].idempotency_key or "")
    found = _in_transaction(lab, [submissions[index] for index in order], partial(_accept, lab))
    of_index = dict(zip(order, found, strict=True))
    return [of_index[index] for index in range(len(submissions))]


def considered(lab: Lab, actor: Actor, request: JobRequest) -> EstimateView:
    """What the job would take. Raises `InvalidSpec` where its references name nothing, or do not fit each other."""

    def consider(session: Session, text: Text | None) -> EstimateView | Unread:
        if waits := waiting(session, actor, request):
            return unseen(waits.name)
        found = _estimated(lab, session, actor, request, text)
        return found if isinstance(found, Unread) else found[2]

    return _read_if_needed(lab, consider)


def weighed(lab: Lab, actor: Actor, request: JobRequest) -> Asked:
    """The job to be queued: what its references mean, what it needs of a worker, and what it will publish.

    Raises as above, and where no live worker has what the job needs.
    """
    return _read_if_needed(lab, lambda session, text: _weigh(lab, session, actor, request, text))


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


def _accept(lab: Lab, session: Session, one: Submission) -> Accepted | Unread:
    """Nothing is written before all is checked: what is refused leaves no trace in the transaction of the others."""
    actor, request = _actor_now(session, one), one.request
    earlier = one.idempotency_key and queries.job_of_idempotency_key(session, actor, one.idempotency_key)
    if earlier:  # all that is asked below was settled then
        asked = Asked(request, earlier.name, earlier.inputs)
    else:
        found = _weigh(lab, session, actor, request, one.text)
        if isinstance(found, Unread):
            return found
        asked = found
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


def _actor_now(session: Session, one: Submission) -> Actor:
    """Who asked may have waited: what ended or was taken away meanwhile takes no job in. Looked up once for a lot."""
    actor = once(session, ("actor", one.credential), lambda: identity.actor_now(session, one.credential))
    actor.require(Permission.JOB_SUBMIT)
    if actor.project_id != one.actor.project_id:
        raise Forbidden("you act in another project by now", hint="submit the job again")
    return actor


def _weigh(lab: Lab, session: Session, actor: Actor, request: JobRequest, text: Text | None) -> Asked | Unread:
    if waits := waiting(session, actor, request):
        return waits
    estimated = _estimated(lab, session, actor, request, text)
    if isinstance(estimated, Unread):
        return estimated
    resolved, facts, found = estimated
    require_fit(request, facts, found)
    needs = needs_of(request.spec, facts, request.requests)
    return Asked(request, resolved.name, resolved.inputs, needs, found.estimate.published_bytes)


def _estimated(
    lab: Lab, session: Session, actor: Actor, request: JobRequest, text: Text | None
) -> tuple[Resolved, Facts, EstimateView] | Unread:
    resolved = refs.resolve(session, actor, request.spec, import_roots=lab.settings.import_roots)
    if resolved.tokenizer is not None and text is None:
        return Unread(request.spec, resolved, resolved.tokenizer)
    facts = facts_of(session, resolved.inputs, prompt_tokens=text.tokens if text else None)
    return (
        resolved,
        facts,
        estimate_job(session, actor, request, resolved.inputs, facts, alive_s=lab.settings.alive_s),
    )


def _texts(lab: Lab, unread: Sequence[Unread]) -> list[Text | Exception]:
    """Of one tokenizer, which is fetched once for all of them, if it has to be."""
    tokenizer = lab.tokenizers.get(unread[0].tokenizer)

    def read(one: Unread) -> Text | Exception:
        try:
            return Text(refs.check_text(one.spec, one.resolved, tokenizer))
        except Exception as error:  # what the others were answered stands
            return error

    return [read(one) for one in unread]


def _read_if_needed(lab: Lab, answer: Callable[[Session, Text | None], A | Unread]) -> A:
    """In a transaction; where the spec has a text, in another when that has been read."""
    with lab.transaction() as session:
        found = answer(session, None)
    if not isinstance(found, Unread):
        return found
    (text,) = _texts(lab, [found])
    if isinstance(text, Exception):
        raise text
    with lab.transaction() as session:
        found = answer(session, text)
    assert not isinstance(found, Unread)  # its text is read
    return found


def _in_transaction(lab: Lab, questions: Sequence[Q], answer: Answer[Q, A]) -> list[A | Exception]:
    """Answers to all questions, in one transaction; each in its own, where one of them spoils it for the others.

    Raises what is nobody's fault: that Postgres cannot be asked, or did not confirm what was committed.
    """

    def caught(session: Session, one: Q) -> A | Exception:
        try:
            return answer(session, one)
        except ClewError as error:
            return error

    try:
        with lab.transaction() as session:
            return [caught(session, one) for one in questions]
    except Exception as error:
        if _away(error):
            raise
        if len(questions) == 1:
            return [error]
    answers: list[A | Exception] = []
    for index, one in enumerate(questions):
        try:
            answers += _in_transaction(lab, [one], answer)
        except Exception as error:  # what the others were answered stands, and those behind would meet the same
            answers += [error] * (len(questions) - index)
            break
    return answers


def _away(error: Exception) -> bool:
    """Whether Postgres, or the way to it, failed: not what was asked of it, such as a lock that was waited for in vain.

    By its code: none of an answer that never came, and the classes of lost connections, of too little of something,
    and of a server that is being stopped.
    """
    if isinstance(error, TimeoutError):  # no connection was free
        return True
    if not isinstance(error, DBAPIError):
        return False
    code: str | None = getattr(error.orig, "sqlstate", None)
    unanswered = code is None and isinstance(error, OperationalError | InterfaceError)
    return error.connection_invalidated or unanswered or (code or "").startswith(("08", "53", "57P"))
