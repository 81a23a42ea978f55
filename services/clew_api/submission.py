"""What is asked for, resolved and weighed: the same for a job that is submitted and for one that is only considered."""

from sqlalchemy.orm import Session

from clew_api.lab import Lab
from clew_lab.catalogue import queries, refs
from clew_lab.catalogue.finding import Resolved
from clew_lab.catalogue.scope import Actor
from clew_lab.jobs.estimates import estimate_job, facts_of, require_fit
from clew_lab.jobs.needs import NOTHING, Needs, needs_of
from clew_lab.jobs.quotas import require_space
from clew_spec.api import EstimateView
from clew_spec.estimates import Facts
from clew_spec.jobs import JobRequest


def considered(lab: Lab, actor: Actor, request: JobRequest) -> EstimateView:
    """What the job would take. Raises `InvalidSpec` where its references name nothing, or do not fit each other."""
    return _weighed(lab, actor, request)[2]


def admitted(lab: Lab, actor: Actor, request: JobRequest, idempotency_key: str | None) -> tuple[Resolved, Needs]:
    """What the references of a job to be queued mean, and what it needs of a worker.

    Raises as above, where no live worker has that, and where the project may not store what it would publish.
    """
    if idempotency_key is not None:
        with lab.transaction() as session:
            earlier = queries.job_of_idempotency_key(session, actor, idempotency_key)
            if earlier is not None:  # all this was settled then
                return Resolved(name=earlier.name, inputs=earlier.inputs), NOTHING
    resolved, facts, found = _weighed(lab, actor, request)
    require_fit(request, facts, found)
    with lab.statement() as session:
        require_space(session, actor, found.estimate.disk.published_bytes if found.estimate.disk else 0)
    return resolved, needs_of(request.spec, facts, request.requests)


def _weighed(lab: Lab, actor: Actor, request: JobRequest) -> tuple[Resolved, Facts, EstimateView]:
    spec = request.spec

    def weigh(session: Session, tokens: int | None = None) -> tuple[Resolved, Facts, EstimateView]:
        facts = facts_of(session, resolved.inputs, prompt_tokens=tokens)
        found = estimate_job(session, actor, request, resolved.inputs, facts, alive_s=lab.settings.alive_s)
        return resolved, facts, found

    with lab.transaction() as session:
        resolved = refs.resolve(session, actor, spec, import_roots=lab.settings.import_roots)
        if resolved.tokenizer is None:
            return weigh(session)
    tokens = refs.check_text(spec, resolved, lab.tokenizers.get(resolved.tokenizer))
    with lab.transaction() as session:
        return weigh(session, tokens)
