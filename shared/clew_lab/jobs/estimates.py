"""Before a job is taken in: what it will take, which workers have that much, and how fast they were before."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import once
from clew_lab.catalogue.scope import Actor, readable
from clew_lab.catalogue.tables import Attempt, Coder, Dataset, Graph, Job, Model, Worker
from clew_lab.jobs.needs import Needs, fitting, needs_of, shortfall
from clew_spec.api import EstimateView, WorkerFit
from clew_spec.errors import InvalidSpec
from clew_spec.estimates import DatasetFacts, Estimate, Facts, GraphFacts, estimate, smaller
from clew_spec.graph import GraphSummary
from clew_spec.jobs import POOL_OF, JobRequest, JobSpec, JobState, Pool, Requests
from clew_spec.units import size

FINISHED = 5
"""Jobs that speed is judged by: the newest that ended well at the first attempt."""
_spec: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


def facts_of(session: Session, inputs: Mapping[str, Any], *, prompt_tokens: int | None = None) -> Facts:
    """What the records that a spec was resolved to say about sizes. inputs: as `Resolved` has them."""
    model = session.get(Model, UUID(inputs["model"])) if "model" in inputs else None
    dataset = session.get(Dataset, UUID(inputs["dataset"])) if "dataset" in inputs else None
    graph = session.get(Graph, UUID(inputs["graph"])) if "graph" in inputs else None
    of_coders = [UUID(id) for id in inputs.get("coders", [])]
    coders = session.scalars(select(Coder).where(Coder.id.in_(of_coders))).all() if of_coders else []
    return Facts.model_validate(
        {
            "model": model and model.config,
            "dataset": dataset and {name: getattr(dataset, name) for name in DatasetFacts.model_fields},
            "coders": [coder.config for coder in coders],
            "graph": graph and _graph_facts(graph),
            "prompt_tokens": prompt_tokens,
        }
    )


def estimate_job(
    session: Session, actor: Actor, request: JobRequest, inputs: Mapping[str, Any], facts: Facts, *, alive_s: float
) -> EstimateView:
    """What the job will take on the largest worker, beside each that could run it.

    alive_s: how old a live worker's beat may be.
    """
    spec = request.spec
    pool = POOL_OF[spec.kind]
    live = _live(session, pool, alive_s)
    said = estimate(spec, _at(facts, max(live, key=_memory)) if live else facts)
    needs = needs_of(spec, facts, request.requests)
    able = fitting(session, needs, live)
    if said.flops:
        said = said.timed(_speeds(session, actor, spec, inputs, able))
    return EstimateView(
        estimate=said,
        workers=[_fit(worker, worker.id in able) for worker in live],
        fits=bool(able) or not live,
        reason=_reason(said, request, needs, live, fits=bool(able)),
    )


def require_fit(request: JobRequest, facts: Facts, found: EstimateView) -> None:
    """Raises InvalidSpec, with both numbers and what would fit, where no live worker has what the job needs."""
    if found.fits:
        return
    if found.estimate.memory is None or request.requests != Requests():
        raise InvalidSpec(
            found.reason or "the job does not fit",
            where="/requests",
            expected="what one live worker has",
            hint="what is left out is worked out from the spec",
        )
    largest = max(found.workers, key=_memory)
    most = largest.memory_bytes
    raise InvalidSpec(
        found.reason or "the job does not fit",
        where=found.estimate.memory.largest.field,
        expected=f"at most {size(most)} of memory",
        hint=_hint(request.spec, _at(facts, largest), most),
    )


def _graph_facts(graph: Graph) -> GraphFacts:
    summary = GraphSummary.model_validate(graph.summary)
    return GraphFacts(
        tokens=len(summary.token_ids),
        nodes=summary.n_nodes,
        edges=summary.n_edges,
        rows=summary.selection.selected + len(summary.targets),
        targets=len(summary.targets),
    )


_LIVE = (
    select(Worker)
    .where(Worker.pool == bindparam("of_pool"), ~Worker.draining)
    .where(Worker.beat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("alive_s")))
    .order_by(Worker.name)
)


def _live(session: Session, pool: Pool, alive_s: float) -> Sequence[Worker]:
    asked = {"of_pool": pool, "alive_s": alive_s}
    return once(session, ("live", pool), lambda: session.scalars(_LIVE, asked).all())


def _at(facts: Facts, worker: Worker | WorkerFit) -> Facts:
    """What a job takes on a worker depends on the kind of its device, not on its number."""
    return facts.model_copy(update={"device": worker.device.partition(":")[0]})


def _memory(worker: Worker | WorkerFit) -> int:
    return worker.memory_bytes


def _fit(worker: Worker, fits: bool) -> WorkerFit:
    described = {name: getattr(worker, name) for name in ("name", "pool", "device", "memory_bytes")}
    return WorkerFit.model_validate({**described, "fits": fits})


def _reason(said: Estimate, request: JobRequest, needs: Needs, live: Sequence[Worker], *, fits: bool) -> str | None:
    pool = POOL_OF[request.spec.kind]
    if live and not fits and request.requests != Requests():
        return f"the job needs {shortfall(needs, live)}"
    if said.memory is None:
        return f"how much memory it needs is not known: {said.unknown['memory']}"
    if not live:
        return f"no worker of the pool {pool} is there to compare with"
    if fits:
        return None
    largest = max(live, key=_memory)
    return (
        f"the job needs about {size(said.memory.bytes)} of memory during {said.memory.moment}; "
        f"{largest.name}, the largest worker of the pool {pool}, has {size(largest.memory_bytes)}"
    )


def _hint(spec: JobSpec, facts: Facts, most: int) -> str:
    for words, other in smaller(spec, facts):
        if (estimate(other, facts).memory_bytes or 0) <= most:
            return f"{words} would fit"
    parts = estimate(spec, facts).memory
    return f"the largest part are the {parts.largest.name}" if parts else "ask for a larger worker"


def _speeds(
    session: Session, actor: Actor, spec: JobSpec, inputs: Mapping[str, Any], workers: Sequence[UUID]
) -> list[float]:
    """FLOP/s that jobs of this kind with this model reached on these workers, whole attempts taken together."""
    finished = (
        readable(actor, Job)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .add_columns(func.extract("epoch", Attempt.ended_at - Attempt.started_at))
        .where(
            Job.kind == spec.kind,
            Job.state == JobState.SUCCEEDED,
            Job.inputs["model"].astext == inputs.get("model"),
            Job.failure_count + Job.lost_count + Job.preempt_count == 0,
            Attempt.worker_id.in_(workers),
        )
        .order_by(Job.finished_at.desc())
        .limit(FINISHED)
    )
    speeds = []
    for job, seconds in session.execute(finished):
        facts = facts_of(session, job.inputs, prompt_tokens=_prompt_tokens(job))
        flops = estimate(_spec.validate_python(job.spec), facts).flops
        if flops and seconds > 0:
            speeds.append(flops / float(seconds))
    return speeds


def _prompt_tokens(job: Job) -> int | None:
    """How many tokens the prompt of a finished job had, where its result tells."""
    result = job.result or {}
    tokens = result.get("tokens") or (result.get("summary") or {}).get("token_ids")
    return len(tokens) if isinstance(tokens, list) else None
