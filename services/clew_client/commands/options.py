"""What several commands take, and how they read a job's id."""

import re
from itertools import islice
from typing import Annotated
from uuid import UUID

import typer

from clew_client.lab import Lab
from clew_spec.errors import InvalidSpec, NotFound

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else on stdout.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")]
Named = Annotated[str | None, typer.Option("--name", help="Only things of this name.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, or the first 6 or more characters of it.")]

SHORTEST = 6
LOOK_BACK = 5000
"""Jobs among which a shortened id must be the only one."""


def find_job(lab: Lab, text: str) -> UUID:
    """The id that `text` is or begins. Raises InvalidSpec if it is none or of several jobs, NotFound."""
    digits = text.lower().replace("-", "")
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},32}}", digits):
        raise InvalidSpec(f"{text!r} is not a job's id", expected=f"a UUID or its first {SHORTEST} or more characters")
    if len(digits) == 32:
        return UUID(digits)
    found = [job for job in islice(lab.jobs(), LOOK_BACK) if job.id.hex.startswith(digits)]
    if not found:
        raise NotFound(f"no job's id begins with {text}", hint="`clew jobs` lists them")
    if len(found) > 1:
        shown = ", ".join(f"{job.id} ({job.name})" for job in found[:5]) + (", ..." if len(found) > 5 else "")
        raise InvalidSpec(f"{len(found)} jobs' ids begin with {text}: {shown}", expected="more characters")
    return found[0].id
