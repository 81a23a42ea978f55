"""The one error tree, and the one shape in which an error leaves Clew (RFC 9457).

ClewError
├── InvalidSpec        422  what was asked for cannot be done as asked
├── NotFound           404  not there, or not yours: the two are not told apart
├── NotAuthenticated   401
├── Forbidden          403
├── Conflict           409  the request contradicts the present state
├── ModelError         422  a model folder or file is unreadable, or its anatomy is not understood
├── DataError          422  a dataset cannot be built or does not fit
├── TooManyRequests    429  asked too often; trying again later helps
└── Unavailable        503  a server Clew needs does not answer; trying again may help
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """An error as JSON (`application/problem+json`), in HTTP answers and in failed jobs alike."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="`urn:clew:` and the code of the error, such as `urn:clew:invalid-spec`")
    title: str = Field(description="what kind of error this is; the same for every occurrence")
    status: int
    detail: str = Field(description="what was wrong, in one sentence")
    where: str | None = Field(default=None, description="JSON pointer into the request, such as `/spec/coder/k`")
    expected: str | None = None
    hint: str | None = Field(default=None, description="what to do about it")
    request_id: str | None = None
    errors: list["Problem"] | None = Field(default=None, description="all of them, where there are several")


class ClewError(Exception):
    """Base of every error that Clew raises on purpose."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Clew could not do this"
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        errors: list[Problem] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.where = where
        self.expected = expected
        self.hint = hint
        self.errors = errors

    def problem(self, **extra: Any) -> Problem:
        return Problem(
            type=f"urn:clew:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            where=self.where,
            expected=self.expected,
            hint=self.hint,
            errors=self.errors,
            **extra,
        )

    def __str__(self) -> str:
        parts = [self.detail]
        if self.where:
            parts.append(f"at {self.where}")
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)


class InvalidSpec(ClewError):
    code = "invalid-spec"
    title = "The request is not valid"
    status = 422


class NotFound(ClewError):
    code = "not-found"
    title = "No such thing, or not visible to you"
    status = 404


class NotAuthenticated(ClewError):
    code = "not-authenticated"
    title = "A valid API key is required"
    status = 401


class Forbidden(ClewError):
    code = "forbidden"
    title = "Your key does not allow this"
    status = 403


class Conflict(ClewError):
    code = "conflict"
    title = "The request contradicts the present state"
    status = 409


class ModelError(ClewError):
    code = "model-error"
    title = "The model cannot be used"
    status = 422


class DataError(ClewError):
    code = "data-error"
    title = "The dataset cannot be used"
    status = 422


class TooManyRequests(ClewError):
    code = "too-many-requests"
    title = "This was asked for too often"
    status = 429


class Unavailable(ClewError):
    code = "unavailable"
    title = "A server that Clew needs does not answer"
    status = 503


class StorageFull(ClewError):
    code = "storage-full"
    title = "The disk is full"
    status = 507


KINDS: tuple[type[ClewError], ...] = tuple(ClewError.__subclasses__())
"""The leaves of the tree above, in its order."""


def from_problem(problem: Problem) -> ClewError:
    """The error that `problem` tells of: by its type, else by its status, else a plain `ClewError`."""
    matches = [kind for kind in KINDS if problem.type == f"urn:clew:{kind.code}"]
    matches += [kind for kind in KINDS if problem.status == kind.status]
    return (matches or [ClewError])[0](
        problem.detail, where=problem.where, expected=problem.expected, hint=problem.hint, errors=problem.errors
    )
