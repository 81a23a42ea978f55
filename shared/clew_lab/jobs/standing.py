"""Where every waiting job stands: its position, when it may start, and why it waits. Computed here, read by all.

Positions are those of `choice`: the k-th job of a project counts as if the ones before it had been given already, so
sorting by that is what choosing one after the other comes to.

The start is that of list scheduling. Workers that can run the job come free after r_1 <= r_2 <= ... seconds, and those
ahead of it are A seconds of work; as if work could be divided, it starts at the t with sum_i max(0, t - r_i) = A, which
is min_k (A + r_1 + ... + r_k) / k.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean
from typing import Any, get_args
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from clew_lab.jobs import share
from clew_lab.jobs.accept import PRIORITIES
from clew_lab.jobs.floor import Holder, beside, floor, offer
from clew_lab.jobs.needs import COLUMNS, FITS, OFFERS, Needs, shortfall, whole
from clew_lab.jobs.share import AHEAD_S, Account
from clew_spec.jobs import POOL_OF, Pool

_LOCK = 0x636C657A
"""Key of the advisory lock of whoever looks."""
RECENT = 20
"""Finished jobs of a kind that tell how long one takes."""

_FOR_MANY = text("""
    -- Postgres cannot guess how many rows come of these joins, and thinks of one.
    select set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true)
""")

_FRESH = text("select count(*) from queues where at > now() - make_interval(secs => :fresh_s)")

_TYPICAL = text(f"""
    select kinds.kind, (
        select avg(seconds) from (
            select extract(epoch from attempts.ended_at - attempts.started_at)::float as seconds
            from jobs join attempts on attempts.job_id = jobs.id and attempts.fence = jobs.fence
            where jobs.state = 'succeeded' and jobs.kind = kinds.kind
            order by jobs.finished_at desc limit {RECENT}
        ) recent
    ) as seconds
    from unnest(cast(:kinds as text[])) as kinds (kind)
""")  # noqa: S608  # a number of our own

_WAITING = text("select pool, project_id, count(*) as jobs from jobs where state = 'queued' group by 1, 2")

_SHAPES = text(f"""
    -- Of an offer without a priority, the worker has nothing else to do.
    with offers as materialized (select * from {OFFERS})
    select jobs.*,
           array(select workers.id from offers as workers where workers.priority is null and {FITS}) as fits,
           array(select workers.id from offers as workers where workers.priority is not null and {FITS}) as fits_now
    from (select distinct pool, {COLUMNS} from jobs where state = 'queued') jobs
""")  # noqa: S608  # fixed texts

_STAND = text(f"""
    with shapes as materialized (
        select * from jsonb_to_recordset(cast(:shapes as jsonb)) as shape (
            pool text, needs_gpus int, needs_cpus int, needs_gpu_memory bigint, needs_ram bigint,
            needs_ram_alone bigint, cause text, data jsonb, free int, sums float[], filled float
        )
    ), projects as materialized (
        select * from jsonb_to_recordset(cast(:projects as jsonb)) as project (
            pool text, project_id uuid, used float, weight float, quota jsonb, behind bool
        )
    ), typical as materialized (
        select * from jsonb_to_recordset(cast(:typical as jsonb)) as kind (kind text, seconds float)
    ), kept as materialized (
        select * from jsonb_to_recordset(cast(:kept as jsonb)) as kept (id uuid, data jsonb)
    ), waiting as (
        select jobs.id, jobs.pool, jobs.priority, jobs.created_at, typical.seconds,
               shapes.cause, shapes.data, shapes.free, shapes.sums, shapes.filled, projects.quota, projects.behind,
               (projects.used + {AHEAD_S} * (row_number() over (
                   partition by jobs.pool, jobs.project_id order by jobs.priority desc, jobs.created_at, jobs.id
               ) - 1)) / projects.weight as share
        from jobs join shapes using (pool, {COLUMNS}) join projects using (pool, project_id) join typical using (kind)
        where jobs.state = 'queued'
    ), placed as (
        select waiting.*, row_number() over turn as position, case when row_number() over turn = 1 then 0
               else sum(seconds) over (turn rows between unbounded preceding and 1 preceding) end as work
        from waiting window turn as (partition by pool order by priority desc, share, created_at, id)
    ), found as materialized (
        select placed.id, position,
               case when cause in ('no-worker', 'too-large') then cause
                    when quota is not null then 'quota'
                    when kept.id is not null then 'kept'
                    when position <= free then 'next'
                    when behind then 'share'
                    else cause end as cause,
               case when cause in ('no-worker', 'too-large') then placed.data
                    when quota is not null then quota
                    when kept.id is not null then kept.data
                    else placed.data end as data,
               case when quota is not null then null
                    when work >= filled then (work + sums[cardinality(sums)]) / cardinality(sums)
                    else (
                        select min((work + each.sum) / each.k) from unnest(sums) with ordinality as each (sum, k)
                    ) end as seconds
        from placed left join kept using (id)
    ), fresh as (
        select id, position, cause, data,
               case when seconds < 1e9 then now() + make_interval(secs => seconds) end as starts_at
        from found
    )
    insert into standings (job_id, position, starts_at, cause, data)
    select fresh.id, fresh.position, fresh.starts_at, fresh.cause, fresh.data
    from fresh left join standings told on told.job_id = fresh.id
    where told.job_id is null
       or (told.position, told.cause, told.data) is distinct from (fresh.position, fresh.cause, fresh.data)
       -- A start that moved by little is left as it was: of a long queue few rows change.
       or coalesce(abs(extract(epoch from told.starts_at - fresh.starts_at))
                   > greatest(5, 0.1 * extract(epoch from fresh.starts_at - now())),
                   (told.starts_at is null) <> (fresh.starts_at is null))
    on conflict (job_id) do update
    set position = excluded.position, starts_at = excluded.starts_at, cause = excluded.cause, data = excluded.data
""")  # noqa: S608  # numbers and texts of our own

_FORGET = text("""
    delete from standings where not exists (select from jobs where jobs.id = standings.job_id and state = 'queued')
""")

_LOOKED = text("""
    insert into queues (pool, waiting, at) values (:pool, cast(:waiting as jsonb), now())
    on conflict (pool) do update set waiting = excluded.waiting, at = excluded.at
""")


def look(session: Session, *, alive_s: float, fresh_s: float = 0) -> bool:
    """Say of every waiting job where it stands; False where another did so within `fresh_s`, or does it now."""
    if not session.scalar(text("select pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}):
        return False
    pools: tuple[Pool, ...] = get_args(Pool)
    if session.scalars(_FRESH, {"fresh_s": fresh_s}).one() == len(pools):
        return False
    session.execute(_FOR_MANY)
    holders = floor(session, alive_s=alive_s)
    workers = [holder for holder in holders if holder.live]
    waiting: dict[str, dict[UUID, int]] = {pool: {} for pool in pools}
    for row in session.execute(_WAITING):
        waiting[row.pool][row.project_id] = row.jobs
    offers = [whole(worker) for worker in workers]
    offers += [offer(worker, holders, PRIORITIES["normal"]) for worker in workers if worker.idle]
    shapes = session.execute(_SHAPES, {"offers": _json(offers)}).all()
    accounts = share.accounts(session)  # after those that wait: a project may have been made meanwhile
    typical = _typical(session)
    kept = [{"id": worker.kept.id, "data": {"worker": worker.name}} for worker in workers if worker.kept]
    session.execute(
        _STAND,
        {
            "shapes": _json([_shape(shape, holders, typical) for shape in shapes]),
            "projects": _json([one for pool in pools for one in _projects(pool, waiting[pool], accounts)]),
            "typical": _json([{"kind": kind, "seconds": seconds} for kind, seconds in typical.items()]),
            "kept": _json(kept),
        },
    )
    session.execute(_FORGET)
    for pool in pools:
        counts = {str(project_id): jobs for project_id, jobs in waiting[pool].items()}
        session.execute(_LOOKED, {"pool": pool, "waiting": _json(counts)})
    return True


def _typical(session: Session) -> dict[str, float | None]:
    """Seconds that a job of each kind takes; of a kind that none finished of, as long as others; None if none did."""
    found = {row.kind: row.seconds for row in session.execute(_TYPICAL, {"kinds": list(POOL_OF)})}
    known = [seconds for seconds in found.values() if seconds is not None]
    usual = fmean(known) if known else None
    return {kind: usual if seconds is None else seconds for kind, seconds in found.items()}


def _shape(shape: Row[Any], holders: Sequence[Holder], typical: Mapping[str, float | None]) -> dict[str, Any]:
    """What is the same for all jobs of a pool that need the same.

    `filled`: the seconds of work ahead from which on the last worker to come free is in use as well.
    """
    of_pool = [holder for holder in holders if holder.live and holder.pool == shape.pool]
    able = [worker for worker in of_pool if worker.id in shape.fits]
    ready = [worker for worker in able if worker.id in shape.fits_now]
    cause = "busy"
    data: dict[str, Any] = {"workers": len(able)}
    if not of_pool:
        cause, data = "no-worker", {}
    elif not able:
        cause, data = "too-large", {"needs": shortfall(Needs.of(shape), of_pool)}
    elif not ready and any(worker.idle for worker in able):
        cause = "room"
    elif all(worker.rests_s > 0 for worker in able):
        cause = "unanswered"
    left = sorted(
        seconds
        for worker in able
        if (seconds := _left(worker, () if worker in ready else beside(worker, holders), typical)) is not None
    )
    return {
        "pool": shape.pool,
        **Needs.of(shape).columns,
        "cause": cause,
        "data": data,
        "free": sum(worker.kept is None for worker in ready),
        "sums": list(accumulate(left)),
        "filled": left[-1] * len(left) - sum(left) if left else None,
    }


def _left(holder: Holder, others: Sequence[Holder], typical: Mapping[str, float | None]) -> float | None:
    """Seconds until the worker is free; None where that cannot be told.

    others: where it has none of its own, those whose jobs take its room: the first of them to end makes some.
    """
    if holder.job_id is None:
        ends = [_left(other, (), typical) for other in others if other.job_id is not None]
        known = [seconds for seconds in ends if seconds is not None]
        return max(holder.rests_s, 0.0, min(known, default=0.0)) if known or not ends else None
    if holder.eta_s is not None:
        return max(0.0, holder.eta_s)
    usual = typical.get(holder.kind or "")
    return None if usual is None else max(0.0, usual - (holder.ran_s or 0))


def _projects(pool: str, waiting: Mapping[UUID, int], accounts: Mapping[UUID, Account]) -> list[dict[str, Any]]:
    least = min((accounts[id].share for id in waiting), default=0.0)
    return [
        {
            "pool": pool,
            "project_id": id,
            "used": account.used,
            "weight": account.weight,
            "quota": {"max_in_flight": account.max_in_flight} if account.full else None,
            "behind": account.share > least + AHEAD_S / account.weight,
        }
        for id, account in ((id, accounts[id]) for id in waiting)
    ]


def _json(value: object) -> str:
    return json.dumps(value, default=str)
