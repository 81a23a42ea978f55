"""HTTP to the API: time limits, retries that are safe, and problem+json turned back into errors."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Any, TypeVar

import httpx2
from pydantic import TypeAdapter, ValidationError

from clew_client.credentials import Credentials
from clew_client.errors import UnexpectedAnswer
from clew_spec.api import Page, View
from clew_spec.errors import ClewError, Problem, Unavailable, from_problem

Params = Mapping[str, str | int | float | list[str] | None]
Item = TypeVar("Item", bound=View)

PAGE = 100
"""Items asked for at once."""

PASSING = frozenset({429, 502, 503, 504})
"""Answers that another try may change."""

_jitter = SystemRandom()


@dataclass(frozen=True)
class Retry:
    """Exponential backoff with jitter; `Retry-After` wins where the server sends it."""

    attempts: int = 5
    first_s: float = 0.25
    longest_s: float = 10.0
    patience_s: float = 60.0
    """A longer `Retry-After` is an error at once: whoever asked should decide whether to wait."""

    def pause(self, attempt: int, response: httpx2.Response | None = None) -> float | None:
        """Seconds until the try after number `attempt` (from 1); None to give up."""
        if attempt >= self.attempts:
            return None
        asked = retry_after(response) if response is not None else None
        if asked is not None:
            return asked if asked <= self.patience_s else None
        return min(self.longest_s, self.first_s * 2.0 ** (attempt - 1)) * _jitter.uniform(0.5, 1.0)


def retry_after(response: httpx2.Response) -> float | None:
    """Seconds, from either form of the header."""
    text: str = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


class Transport:
    """One lab's API. Safe to share between threads, as `httpx2.Client` is."""

    def __init__(self, credentials: Credentials, *, timeout_s: float, retry: Retry) -> None:
        self.url = credentials.url
        self.retry = retry
        self.timeout_s = timeout_s
        self.http = httpx2.Client(
            base_url=f"{credentials.url}/api/v1/",
            headers={"Authorization": f"Bearer {credentials.key}"} if credentials.key else {},
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            # A proxy named in the environment cannot reach this machine's own loopback.
            mounts={f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")},
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: str | None = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
        idempotent: bool | None = None,
    ) -> httpx2.Response:
        """An answer that is 2xx or among `accept`; every other one is raised as a ClewError.

        Only idempotent requests (GET, unless told) are tried again, after connection errors and `PASSING` answers.
        """
        again = method == "GET" if idempotent is None else idempotent
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self.http.request(
                    method,
                    path,
                    params={name: value for name, value in (params or {}).items() if value is not None},
                    content=content,
                    headers=dict(headers or {}) | ({"Content-Type": "application/json"} if content else {}),
                )
            except httpx2.TransportError as error:
                pause = self.retry.pause(attempt) if again else None
                failure: ClewError = unreachable(self.url, error)
            else:
                if response.is_success or response.status_code in accept:
                    return response
                pause = self.retry.pause(attempt, response) if again and response.status_code in PASSING else None
                failure = problem_of(response)
            if pause is None:
                raise failure
            time.sleep(pause)

    def pages(
        self, page_of: TypeAdapter[Page[Item]], path: str, params: Params, limit: int | None = None
    ) -> Iterator[Item]:
        """Items of a list, page by page; `limit` of them, or all."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page: Page[Item] = self.get(page_of, path, {**params, "limit": size, "cursor": cursor})
            yield from page.items[:left]
            cursor = page.next_cursor
            if cursor is None:
                return
            left = None if left is None else left - len(page.items)

    def get(self, answer: type[Any] | TypeAdapter[Any], path: str, params: Params | None = None) -> Any:
        """The body of a GET, as `answer`."""
        return parse(answer, self.request("GET", path, params=params))


def parse(answer: type[Any] | TypeAdapter[Any], response: httpx2.Response) -> Any:
    """`response`'s body as `answer`. Raises UnexpectedAnswer."""
    adapter = answer if isinstance(answer, TypeAdapter) else TypeAdapter(answer)
    try:
        return adapter.validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UnexpectedAnswer(
            f"the answer of {response.request.url.path} was not understood: {first['msg']}",
            where="".join(f"/{part}" for part in first["loc"]) or None,
            hint="client and server may be of different versions (`clew --version`, `clew health`), "
            "or another server answers at this URL",
        ) from error


def unreachable(url: str, error: Exception) -> Unavailable:
    reason = str(error) or type(error).__name__
    return Unavailable(
        f"the lab at {url} does not answer: {reason}", hint="is it running (`clew up`), and is the URL right?"
    )


def problem_of(response: httpx2.Response) -> ClewError:
    """The error that an answer reports; its body must have been read."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        detail = f"{response.request.url} answered {response.status_code} {response.reason_phrase}".rstrip()
        if response.status_code in PASSING:
            return Unavailable(detail, hint="a proxy before the lab may say so; try again later")
        return UnexpectedAnswer(detail, expected="an answer of a Clew API", hint="is the URL right?")
    if problem.status >= 500 and problem.request_id and not problem.hint:
        problem.hint = f"the lab's log has more under request id {problem.request_id}"
    return from_problem(problem)
