"""What is asked for, resolved and weighed: the same for a job that is submitted and for one that is only considered."""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from clew_api.lab import Lab
from clew_lab.catalogue import queries, refs
from clew_lab.catalogue.finding import Resolved
from clew_lab.catalogue.scope import Actor
from clew_lab.jobs import dependents
from clew_lab.jobs.accept import Asked
from clew_lab.jobs.estimates import estimate_job, facts_of, require_fit
from clew_lab.jobs.needs import needs_of
from clew_lab.jobs.quotas import require_space
from clew_spec.api import EstimateView
from clew_spec.batches import references
from clew_spec.estimates import Estimate, Facts
from clew_spec.jobs import JobRequest

T = TypeVar("T")


def considered(lab: Lab, actor: Actor, request: JobRequest) -> EstimateView:
    """What the job would take. Raises `InvalidSpec` where its references name nothing, or do not fit each other."""
    if waits := waiting(lab, actor, request):
        return unseen(waits.name)
    return _weighed(lab, actor, request, lambda _session, _resolved, _facts, found: found)


def admitted(
    lab: Lab, actor: Actor, request: JobRequest, idempotency_key: str | None, then: Callable[[Session, Asked], T]
) -> T:
    """`then`, in a transaction in which the job can be accepted. Raises as `weighed`, and over the project's quota."""
    if idempotency_key is not None:
        with lab.transaction() as session:
            earlier = queries.job_of_idempotency_key(session, actor, idempotency_key)
            if earlier is not None:  # all that is asked below was settled then
                return then(session, Asked(request, earlier.name, earlier.inputs))

    def take(session: Session, asked: Asked, published_bytes: int) -> T:
        require_space(session, actor, published_bytes)
        return then(session, asked)

    return weighed(lab, actor, request, take)


def weighed(lab: Lab, actor: Actor, request: JobRequest, then: Callable[[Session, Asked, int], T]) -> T:
    """`then`, with the job to be queued: what its references mean, and what it needs of a worker.

    And with the bytes that it would publish, as far as they are known. Raises as above, and where no live worker has
    what the job needs.
    """
    if waits := waiting(lab, actor, request):
        with lab.transaction() as session:
            return then(session, waits, 0)

    def fitting(session: Session, resolved: Resolved, facts: Facts, found: EstimateView) -> T:
        require_fit(request, facts, found)
        asked = Asked(request, resolved.name, resolved.inputs, needs_of(request.spec, facts, request.requests))
        disk = found.estimate.disk
        return then(session, asked, disk.published_bytes if disk else 0)

    return _weighed(lab, actor, request, fitting)


def waiting(
    lab: Lab, actor: Actor, request: JobRequest, *, after: frozenset[UUID] = frozenset(), name: str = ""
) -> Asked | None:
    """As `waiting_in`, in a transaction of its own; in none, where the spec names no job."""
    if not any(map(dependents.job_of, references(request.spec).values())):
        return None
    with lab.transaction() as session:
        return waiting_in(session, actor, request, after=after, name=name)


def waiting_in(
    session: Session, actor: Actor, request: JobRequest, *, after: frozenset[UUID] = frozenset(), name: str = ""
) -> Asked | None:
    """The job, where it has to wait for others, checked as far as can be known before they end; else None.

    after: ids of jobs that are yet to be submitted. name: of a job whose spec has none.
    """
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


def _weighed(
    lab: Lab, actor: Actor, request: JobRequest, then: Callable[[Session, Resolved, Facts, EstimateView], T]
) -> T:
    spec = request.spec

    def weigh(session: Session, tokens: int | None = None) -> T:
        facts = facts_of(session, resolved.inputs, prompt_tokens=tokens)
        found = estimate_job(session, actor, request, resolved.inputs, facts, alive_s=lab.settings.alive_s)
        return then(session, resolved, facts, found)

    with lab.transaction() as session:
        resolved = refs.resolve(session, actor, spec, import_roots=lab.settings.import_roots)
        if resolved.tokenizer is None:
            return weigh(session)
    tokens = refs.check_text(spec, resolved, lab.tokenizers.get(resolved.tokenizer))  # no connection waits for it
    with lab.transaction() as session:
        return weigh(session, tokens)
