"""Metrics as curves: one value a step, and few enough points to draw."""

import math
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from clew_lab.catalogue.scope import Actor, get
from clew_lab.catalogue.tables import Job
from clew_spec.api import MetricSeries

MAX_POINTS = 20_000

# A step that several attempts reached counts once, as the newest attempt saw it; hidden points count nowhere.
# Thinning is min-max: the points between the first and the last are cut into equal runs, and of each run the lowest and
# the highest stay. Values that are not finite have no place in that order, so they are thinned as runs of their own.
_SERIES = text("""
with seen as (
    select distinct on (name, step) name, step, value,
           value in ('NaN', 'Infinity', '-Infinity') as odd
      from metrics
     where job_id = :job_id and not hidden and (cast(:names as text[]) is null or name = any(:names))
     order by name, step, fence desc
), placed as (
    select *, row_number() over by_step as n, count(*) over (partition by name) as total
      from seen
    window by_step as (partition by name order by step)
), runs as (
    select *, (n - 2) * :runs / greatest(total - 2, 1) as run from placed
), ranked as (
    select *, row_number() over (partition by name, run, odd order by value, step) as lowest,
              row_number() over (partition by name, run, odd order by value desc, step) as highest
      from runs
)
select name, step, value
  from ranked
 where total <= :max_points or n in (1, total) or (lowest = 1 or highest = 1) and (not odd or lowest = 1)
 order by name, step
""").bindparams(bindparam("names", type_=ARRAY(TEXT)))


def metric_series(
    session: Session, actor: Actor, job_id: UUID, *, names: Sequence[str] = (), max_points: int = 1000
) -> list[MetricSeries]:
    """The job's curves, by name; of those with more than `max_points` the first, the last and the extremes stay.

    Raises `NotFound`. `max_points` is at least 5.
    """
    get(session, actor, Job, job_id)
    rows = session.execute(
        _SERIES,
        {
            "job_id": job_id,
            "names": list(names) or None,
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
