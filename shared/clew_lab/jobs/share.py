"""What each project has used of the workers, and what that makes of its turn.

A worker-second counts half after `HALF_LIFE_S`, and so on. An attempt of length s that ends now counts
h / ln 2 * (1 - 2 ** -(s / h)): the integral of what each of its seconds counts, so that an attempt that was interrupted
counts as much as one that was not. One number a project is enough, for all of it decays alike.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Job

HALF_LIFE_S = 7 * 86400.0
"""Slurm's default is the same."""
AHEAD_S = 60.0
"""What a job counts at least from the moment a worker has it, so that workers that come free together are shared."""


def _since(later: str, earlier: str) -> str:
    """In half-lives; bounded, since Postgres refuses what underflows. Of a time that is null, it is the bound."""
    return f"(least(extract(epoch from {later} - {earlier})::float / {HALF_LIFE_S}, 200))"


def _counts(later: str, earlier: str) -> str:
    return f"({HALF_LIFE_S} / ln(2::float) * (1 - 0.5::float ^ {_since(later, earlier)}))"


_CHARGE = text(f"""
    insert into usage (project_id, seconds, at)
    select project_id, {_counts("now()", "started_at")}, now() from attempts where job_id = :job_id and fence = :fence
    on conflict (project_id) do update
    set seconds = usage.seconds * 0.5::float ^ {_since("excluded.at", "usage.at")} + excluded.seconds,
        at = excluded.at
""")  # noqa: S608  # numbers of our own

_ACCOUNTS = text(f"""
    select projects.id, projects.name, projects.weight, projects.max_in_flight, coalesce(held.jobs, 0) as in_flight,
           coalesce(usage.seconds * 0.5::float ^ {_since("now()", "usage.at")}, 0) + coalesce(held.seconds, 0) as used
    from projects
    left join usage on usage.project_id = projects.id
    left join (
        select jobs.project_id, count(*) as jobs,
               sum(greatest({AHEAD_S}, {_counts("now()", "coalesce(attempts.started_at, now())")})) as seconds
        from jobs left join attempts on attempts.job_id = jobs.id and attempts.fence = jobs.fence
        where jobs.state in ('dispatched', 'running')
        group by jobs.project_id
    ) held on held.project_id = projects.id
    order by projects.name
""")  # noqa: S608  # numbers of our own


@dataclass
class Account:
    """A project, as far as its turn is concerned."""

    project: str
    weight: float
    used: float
    """Worker-seconds, each running job counted."""
    in_flight: int = 0
    """Jobs that workers have."""
    max_in_flight: int | None = None

    @property
    def share(self) -> float:
        """Who has least of it is next."""
        return self.used / self.weight

    @property
    def full(self) -> bool:
        return self.max_in_flight is not None and self.in_flight >= self.max_in_flight

    def give(self) -> None:
        """Count a job that goes to a worker now."""
        self.used += AHEAD_S
        self.in_flight += 1


def accounts(session: Session) -> dict[UUID, Account]:
    """Of every project, in one snapshot."""
    return {
        row.id: Account(row.name, row.weight, float(row.used), row.in_flight, row.max_in_flight)
        for row in session.execute(_ACCOUNTS)
    }


def charge(session: Session, job: Job) -> None:
    """The attempt that holds this job ends now: its project has used that much more."""
    session.execute(_CHARGE, {"job_id": job.id, "fence": job.fence})
