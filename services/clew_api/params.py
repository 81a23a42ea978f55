"""Query parameters and headers that several routes share."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Query

from clew_lab.catalogue.pages import MAX_LIMIT
from clew_spec.base import Name

Cursor = Annotated[
    str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_-]+$", description="`next_cursor` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items on a page")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
        description="printable ASCII; the same key with the same body gives the same job",
    ),
]
MAX_SEQ = 2**62
Seq = Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="begin after this event")]
LastEventId = Annotated[
    int | None, Header(alias="Last-Event-ID", ge=0, le=MAX_SEQ, description="sent by a browser that reconnects")
]


def _page_options(
    name: Annotated[Name | None, Query(description="only things of this name")] = None,
    job: Annotated[UUID | None, Query(description="only what this job made")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    return {"name": name, "job": job, "cursor": cursor, "limit": limit}


PageOptions = Annotated[dict[str, Any], Depends(_page_options)]
"""`name`, `job`, `cursor` and `limit` of a list of the catalogue."""
