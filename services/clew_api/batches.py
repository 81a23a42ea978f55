"""Sweeps and pipelines, resolved and weighed: as `submission` does it for one job, and all of them or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from uuid import UUID

from clew_api.lab import Lab
from clew_api.planned import Plan
from clew_api.submission import considered, unseen, waiting, weighed
from clew_lab.catalogue import refs
from clew_lab.catalogue.finding import Resolved
from clew_lab.catalogue.scope import Actor
from clew_lab.jobs.accept import Asked
from clew_lab.jobs.batches import Member, new_ids
from clew_lab.jobs.estimates import estimate_job, facts_of, require_fit
from clew_lab.jobs.needs import Needs, needs_of
from clew_spec.api import EstimateView
from clew_spec.batch_views import PipelineEstimate, PlannedJob, SweepEstimate
from clew_spec.batches import PipelineRequest, SweepRequest, awaited, jobs_of_sweep, order_of_pipeline
from clew_spec.errors import ClewError
from clew_spec.estimates import Facts, decisive, estimate
from clew_spec.jobs import JobRequest


def admitted_pipeline(lab: Lab, actor: Actor, pipeline: PipelineRequest) -> list[Member]:
    """Jobs to be taken in, each behind those it waits for.

    Raises `InvalidSpec` that points to the job and its field, also where jobs wait for each other in a circle.
    """
    names = order_of_pipeline(pipeline)
    with lab.transaction() as session:
        ids = dict(zip(names, new_ids(session, len(names)), strict=True))
    members = []
    for name in names:
        with _within(f"/jobs/{name}"):
            asked = _of_pipeline(lab, actor, pipeline.jobs[name], ids, name)
        members.append(Member(ids[name], name, asked))
    return members


def considered_pipeline(lab: Lab, actor: Actor, pipeline: PipelineRequest) -> PipelineEstimate:
    """Raises as `admitted_pipeline`, but for what is too large for the workers or the project."""
    planned, plan = {}, Plan(lab, actor)
    for name in order_of_pipeline(pipeline):
        request = pipeline.jobs[name]
        others = sorted({other for other, _ in awaited(request.spec).values()})
        with _within(f"/jobs/{name}"):
            if others:
                ids = {other: UUID(int=number) for number, other in enumerate(others)}
                _of_pipeline(lab, actor, request, ids, name)
                found = plan.estimate(name, request)
            else:
                found = considered(lab, actor, request)
                plan.note(name, request)
        planned[name] = PlannedJob(depends_on=others, estimate=found)
    return PipelineEstimate(jobs=planned)


def admitted_sweep(lab: Lab, actor: Actor, sweep: SweepRequest) -> list[Member]:
    """Jobs to be taken in, in the order of the grid. Raises as a single submission, and says for which of them."""
    found = _Sweep.of(lab, actor, sweep)
    for one, facts in found.largest:
        with _whose(one.step):
            require_fit(one.asked.request, facts, found.estimate(lab, actor, one, facts))
    with lab.transaction() as session:
        ids = new_ids(session, len(found.asked))
    return [Member(id, one.step, one.asked) for id, one in zip(ids, found.asked, strict=True)]


def considered_sweep(lab: Lab, actor: Actor, sweep: SweepRequest) -> SweepEstimate:
    """Raises `InvalidSpec` where one of the jobs cannot be as it is asked for."""
    found = _Sweep.of(lab, actor, sweep)
    if not found.largest:
        first = found.asked[0]
        return SweepEstimate(
            jobs=len(found.asked), largest=unseen(first.asked.name), largest_step=first.step, published_bytes=None
        )
    views = [(found.estimate(lab, actor, one, facts), one.step) for one, facts in found.largest]
    largest, step = next((pair for pair in views if not pair[0].fits), views[0])
    known = None not in found.published
    total = sum(filter(None, found.published)) if known else None
    return SweepEstimate(jobs=len(found.asked), largest=largest, largest_step=step, published_bytes=total)


def _of_pipeline(lab: Lab, actor: Actor, request: JobRequest, ids: dict[str, UUID], name: str) -> Asked:
    others = awaited(request.spec)
    if not others:
        return weighed(lab, actor, request)
    changes: dict[str, str] = {field: f"{ids[other]}{variant}" for field, (other, variant) in others.items()}
    bound = request.model_copy(update={"spec": request.spec.model_copy(update=changes)})
    after = frozenset(ids[other] for other, _ in others.values())
    with lab.transaction() as session:
        asked = waiting(session, actor, bound, after=after, name=name)
    assert asked is not None
    return asked


@dataclass(frozen=True)
class _One:
    step: str
    asked: Asked


@dataclass(frozen=True)
class _Sweep:
    """What is the same for many jobs is worked out once."""

    asked: list[_One]
    largest: list[tuple[_One, Facts]]
    """Jobs that no other needs more than, in anything: if these fit, so do all. None where all wait for other jobs."""
    published: list[int | None]
    """Bytes of each job's results, as far as they are known."""

    @classmethod
    def of(cls, lab: Lab, actor: Actor, sweep: SweepRequest) -> "_Sweep":
        jobs = list(jobs_of_sweep(sweep))
        resolved = _resolved(lab, actor, jobs)
        facts = _facts(lab, jobs, resolved)
        ones: list[_One] = []
        sizes: list[int | None] = []
        weighed: dict[tuple[str, int], tuple[int | None, Needs]] = {}
        for (step, request), found, known in zip(jobs, resolved, facts, strict=True):
            if isinstance(found, Asked):
                ones.append(_One(step, found))
                sizes.append(None)
                continue
            alike = decisive(request.spec), id(known)  # all requests of a sweep ask for the same
            if alike not in weighed:
                disk = estimate(request.spec, known).disk
                needs = needs_of(request.spec, known, request.requests)
                weighed[alike] = disk.published_bytes if disk else None, needs
            published_bytes, needs = weighed[alike]
            sizes.append(published_bytes)
            ones.append(_One(step, Asked(request, found.name, found.inputs, needs, published_bytes or 0)))
        seen = [(one, known) for one, known in zip(ones, facts, strict=True) if not one.asked.after]
        return cls(ones, [seen[index] for index in _largest([one.asked.needs for one, _ in seen])], sizes)

    def estimate(self, lab: Lab, actor: Actor, one: _One, facts: Facts) -> EstimateView:
        with lab.transaction() as session:
            asked, alive_s = one.asked, lab.settings.alive_s
            return estimate_job(session, actor, asked.request, asked.inputs, facts, alive_s=alive_s)


def _resolved(lab: Lab, actor: Actor, jobs: list[tuple[str, JobRequest]]) -> list[Resolved | Asked]:
    """What each job's references are; of one that waits for another job, the job as it is to be taken in."""
    found: list[Resolved | Asked] = []
    roots = lab.settings.import_roots
    with lab.transaction() as session:
        for step, request in jobs:
            with _whose(step):
                waits = waiting(session, actor, request)
                found.append(waits or refs.resolve(session, actor, request.spec, import_roots=roots))
    return found


def _facts(lab: Lab, jobs: list[tuple[str, JobRequest]], resolved: list[Resolved | Asked]) -> list[Facts]:
    tokens: list[int | None] = []
    for (step, request), found in zip(jobs, resolved, strict=True):
        with _whose(step):
            file = found.tokenizer if isinstance(found, Resolved) else None
            read = file and lab.tokenizers.get(file)
            tokens.append(refs.check_text(request.spec, found, read) if read and isinstance(found, Resolved) else None)
    known: dict[str, Facts] = {}
    keys = [f"{found.inputs} {length}" for found, length in zip(resolved, tokens, strict=True)]
    with lab.transaction() as session:
        for key, found, length in zip(keys, resolved, tokens, strict=True):
            if key not in known:
                known[key] = facts_of(session, found.inputs, prompt_tokens=length)
    return [known[key] for key in keys]


def _largest(needs: list[Needs]) -> list[int]:
    """Indices of those that no other exceeds in everything."""
    first = {each: index for index, each in reversed(list(enumerate(needs)))}
    kept: list[tuple[int, ...]] = []
    indices = []
    for each in sorted(first, key=astuple, reverse=True):
        if not any(all(map(int.__le__, astuple(each), other)) for other in kept):
            kept.append(astuple(each))
            indices.append(first[each])
    return indices


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Errors point into a part of the request."""
    try:
        yield
    except ClewError as error:
        error.where = where + (error.where or "")
        raise


@contextmanager
def _whose(step: str) -> Iterator[None]:
    """Errors say which job of the sweep they are of."""
    try:
        yield
    except ClewError as error:
        error.detail = f"{step}: {error.detail}"
        raise
