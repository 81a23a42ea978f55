"""Where a waiting job stands, in the words that people read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clew_lab.catalogue.tables import Job, Standing
from clew_spec import api


def standing_view(job: Job, standing: Standing | None, looked_at: datetime | None) -> api.Standing | None:
    """None where the job does not wait, or has not been seen waiting. looked_at: of the scheduler, at its pool."""
    if standing is None or looked_at is None:
        return None
    eta_s = None
    if standing.starts_at is not None:
        eta_s = max(0.0, (standing.starts_at - datetime.now(UTC)).total_seconds())
    return api.Standing.model_validate(
        {
            "position": standing.position,
            "eta_s": eta_s,
            "cause": standing.cause,
            "reason": reason(job.pool, standing),
            "at": looked_at,
        }
    )


def reason(pool: str, standing: Standing) -> str:
    """Why the job waits, as a clause."""
    data = standing.data or {}
    match standing.cause:
        case "no-worker":
            return f"no worker of the pool {pool} is there"
        case "too-large":
            return f"it needs {data['needs']}"
        case "quota":
            return f"its project has {_jobs(data['max_in_flight'])} on workers, which is its quota"
        case "kept":
            return f"{data['worker']}, which can run it, is kept for it and still busy"
        case "share":
            return f"its project has used more of the workers for its weight than others that wait; {_ahead(standing)}"
        case "next":
            return "a worker is free for it"
        case "room":
            where = _of_those(data, "the machine of the one worker that can run it", "the machines of all {} that can")
            return f"other jobs take what it needs on {where}; {_ahead(standing)}"
        case "unanswered":
            who = _of_those(data, "the one worker that can run it does", "all {} that can run it do")
            return f"{who} not answer, and will be tried again; {_ahead(standing)}"
        case _:
            who = _of_those(data, "the one worker that can run it is", "all {} that can run it are")
            return f"{who} busy; {_ahead(standing)}"


def _of_those(data: Mapping[str, Any], one: str, many: str) -> str:
    workers = data["workers"]
    return one if workers == 1 else many.format(f"{workers} workers")


def _ahead(standing: Standing) -> str:
    if standing.position == 1:
        return "it is next"
    return f"{_jobs(standing.position - 1)} {'is' if standing.position == 2 else 'are'} ahead of it"


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count:,} jobs"
