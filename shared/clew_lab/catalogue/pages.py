"""Lists, newest first, one page at a time. A cursor is the id of the last item seen, so new rows move no page."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.orm import Session

from clew_spec.api import Page, View
from clew_spec.errors import InvalidSpec

V = TypeVar("V", bound=View)

MAX_LIMIT = 200


def encode_cursor(last: UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> UUID:
    """Raises `InvalidSpec` for what `encode_cursor` did not make."""
    try:
        last = UUID(bytes=base64.b64decode(cursor.encode("ascii") + b"==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        last = None
    if last is None or encode_cursor(last) != cursor:
        raise InvalidSpec(
            "the cursor is not one of ours",
            where="/query/cursor",
            expected="the `next_cursor` of the page before",
            hint="leave it out to begin at the newest",
        )
    return last


def page(
    session: Session,
    statement: Select[Any],
    table: Any,
    view: Callable[[Any], V],
    *,
    cursor: str | None,
    limit: int,
) -> Page[V]:
    """The next `limit` rows of `statement` after `cursor`, by falling id (version 7: by falling age)."""
    if cursor is not None:
        statement = statement.where(table.id < decode_cursor(cursor))
    rows = session.execute(statement.order_by(table.id.desc()).limit(limit + 1)).all()
    items = [view(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page[V](items=items, next_cursor=encode_cursor(rows[limit - 1][0].id) if more else None)
