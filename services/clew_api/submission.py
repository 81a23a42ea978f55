"""What is asked for, resolved and weighed: the same for a job that is submitted and for one that is only considered."""

from clew_api.lab import Lab
from clew_lab.catalogue import queries, refs
from clew_lab.catalogue.finding import Resolved
from clew_lab.catalogue.scope import Actor
from clew_lab.jobs.estimates import estimate_job, facts_of, require_fit
from clew_spec.api import EstimateView
from clew_spec.estimates import Facts
from clew_spec.jobs import JobSpec


def considered(lab: Lab, actor: Actor, spec: JobSpec) -> EstimateView:
    """What the job would take. Raises `InvalidSpec` where its references name nothing, or do not fit each other."""
    return _weighed(lab, actor, spec)[2]


def admitted(lab: Lab, actor: Actor, spec: JobSpec, idempotency_key: str | None) -> Resolved:
    """What the references of a job to be queued mean. Raises as above, and where no live worker has the memory."""
    if idempotency_key is not None:
        with lab.transaction() as session:
            earlier = queries.job_of_idempotency_key(session, actor, idempotency_key)
            if earlier is not None:  # all this was settled then
                return Resolved(name=earlier.name, inputs=earlier.inputs)
    resolved, facts, found = _weighed(lab, actor, spec)
    require_fit(spec, facts, found)
    return resolved


def _weighed(lab: Lab, actor: Actor, spec: JobSpec) -> tuple[Resolved, Facts, EstimateView]:
    with lab.transaction() as session:
        resolved = refs.resolve(session, actor, spec, import_roots=lab.settings.import_roots)
    tokens = None
    if resolved.tokenizer is not None:
        tokens = refs.check_text(spec, resolved, lab.tokenizers.get(resolved.tokenizer))
    with lab.transaction() as session:
        facts = facts_of(session, resolved.inputs, prompt_tokens=tokens)
        found = estimate_job(session, actor, spec, resolved.inputs, facts, alive_s=lab.settings.alive_s)
    return resolved, facts, found
