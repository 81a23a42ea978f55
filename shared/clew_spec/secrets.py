"""Secrets of a project: given to the runner of a job that needs them, and to nobody else."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from clew_spec.base import Spec
from clew_spec.datasets import HubSource
from clew_spec.hub import of_path

MIN_LENGTH, MAX_LENGTH = 8, 4096
"""A shorter one would be struck out of texts in which it stands by chance."""
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def _a_token(value: SecretStr) -> SecretStr:
    """The text itself must not come back in an error."""
    text = value.get_secret_value()
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        raise ValueError(f"the value has {len(text)} characters; {MIN_LENGTH} to {MAX_LENGTH} are possible")
    if not _PRINTABLE.fullmatch(text):
        raise ValueError("the value has spaces, or characters that are no printable ASCII")
    return value


class SecretName(StrEnum):
    """The environment variable under which a runner finds it. There are as many as there are uses."""

    HF_TOKEN = "HF_TOKEN"  # noqa: S105  # its name
    """Opens gated and private models and datasets of the Hugging Face hub."""


class SecretRequest(Spec):
    """The body of `PUT /api/v1/secrets/{name}`."""

    value: Annotated[
        SecretStr,
        AfterValidator(_a_token),
        Field(description=f"{MIN_LENGTH} to {MAX_LENGTH} characters of printable ASCII, as a header takes them"),
    ]


def needed_by(spec: Any) -> frozenset[SecretName]:
    """What the runner of such a job is given, as far as its project has it."""
    hub = isinstance(getattr(spec, "source", None), HubSource) or of_path(getattr(spec, "path", "")) is not None
    return frozenset({SecretName.HF_TOKEN}) if hub else frozenset()
