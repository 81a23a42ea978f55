"""Metrics as curves: one value a step, and few enough points to draw."""

import math
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from clew_lab.catalogue.scope import Actor, get
from clew_lab.catalogue.tables import Job
from clew_spec.api import MetricSeries, StepTime

MAX_POINTS = 20_000
MAX_STEP = 2**53
"""No step lies beyond: a browser could not tell it from the next."""

# A step that several attempts reached counts once, as the newest attempt saw it; hidden points count nowhere.
# Thinning is min-max: the points between the first and the last are cut into equal runs, and of each run the lowest and
# the highest stay. Values that are not finite have no place in that order: the first one of a run stays as well.
_SERIES = text("""
with seen as (
    select distinct on (name, step) name, step, value
      from metrics
     where job_id = :job_id and not hidden and (cast(:names as text[]) is null or name = any(:names))
       and step between :first_step and :last_step
     order by name, step, fence desc
), placed as (
    select *, value in ('NaN', 'Infinity', '-Infinity') as odd,
           row_number() over (partition by name order by step) as n, count(*) over (partition by name) as total
      from seen
), runs as (
    select name, step, value, odd,
           case when total <= :max_points then n
                when n = 1 then -1
                when n = total then :runs
                else (n - 2) * :runs / (total - 2) end as run
      from placed
), extremes as (
    select name,
           min(array[value, step]) filter (where not odd) as lowest,
           max(array[value, -step]) filter (where not odd) as highest,
           min(step) filter (where odd) as odd
      from runs
     group by name, run
)
select distinct name, cast(kept.step as bigint) as step, kept.value
  from extremes,
       unnest(array[lowest[2], -highest[2], odd], array[lowest[1], highest[1], 'NaN']) as kept (step, value)
 where kept.step is not null
 order by name, step
""").bindparams(bindparam("names", type_=ARRAY(TEXT)))


def metric_series(
    session: Session,
    actor: Actor,
    job_id: UUID,
    *,
    names: Sequence[str] = (),
    first_step: int = 0,
    last_step: int = MAX_STEP,
    max_points: int = 1000,
) -> list[MetricSeries]:
    """The job's curves from `first_step` to `last_step`, by name; of those with more than `max_points` there the first,
    the last and the extremes stay.

    Raises `NotFound`. `max_points` is at least 5.
    """
    get(session, actor, Job, job_id)
    rows = session.execute(
        _SERIES,
        {
            "job_id": job_id,
            "names": list(names) or None,
            "first_step": first_step,
            "last_step": last_step,
            "max_points": max_points,
            "runs": (max_points - 2) // 3,
        },
    )
    curves: dict[str, MetricSeries] = {}
    for name, step, value in rows:
        curve = curves.setdefault(name, MetricSeries(name=name, steps=[], values=[]))
        curve.steps.append(step)
        curve.values.append(value if math.isfinite(value) else None)
    return list(curves.values())


_STEP_TIMES = text("""
with seen as (
    select distinct on (step) step, at
      from (select cast(data ->> 'step' as bigint) as step, at, fence
              from events where job_id = :job_id and type = 'metric') as told
     order by step, fence desc
), placed as (
    select *, row_number() over (order by step) as n, count(*) over () as total from seen
)
select step, at from placed
 where n = total or (n - 1) % greatest(1, ceil(total / cast(:max_points as float))::bigint) = 0
 order by step
""")


def step_times(session: Session, actor: Actor, job_id: UUID, *, max_points: int = 1000) -> list[StepTime]:
    """When the job measured its steps, in the order of steps; of more than `max_points` the first, the last and evenly
    spaced ones between stay. What an attempt measured past its last checkpoint is replaced step by step.

    Raises `NotFound`.
    """
    get(session, actor, Job, job_id)
    rows = session.execute(_STEP_TIMES, {"job_id": job_id, "max_points": max_points - 1})
    return [StepTime(step=step, at=at) for step, at in rows]
