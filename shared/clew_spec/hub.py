"""Repositories on the Hugging Face hub, as a job names them. No address can be named: only whose repository, and which.

A dataset is a source of its kind (`HubSource`); a model is a path, `hf:owner/name` or `hf:owner/name@revision`.
"""

from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from clew_spec.datasets import HubRepo, HubRevision
from clew_spec.errors import InvalidSpec

SCHEME = "hf:"
_repo: TypeAdapter[str] = TypeAdapter(HubRepo)
_revision: TypeAdapter[str] = TypeAdapter(HubRevision)


class HubModel(NamedTuple):
    repo: str
    revision: str | None
    """A branch, tag or commit; the newest commit if not given."""


def of_path(path: str, *, where: str = "/spec/path") -> HubModel | None:
    """The model that a path names; None of other paths. Raises InvalidSpec for what begins so and is no repository."""
    if not path.startswith(SCHEME):
        return None
    repo, at, revision = path.removeprefix(SCHEME).partition("@")
    try:
        return HubModel(_repo.validate_python(repo), _revision.validate_python(revision) if at else None)
    except ValidationError:
        raise InvalidSpec(
            f"{path[:200]!r} names no repository of the hub", where=where, expected="hf:owner/name or hf:owner/name@v1"
        ) from None
