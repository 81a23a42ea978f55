"""Secrets of a project: given to the runner of a job that needs them, and to nobody else."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, SecretStr

from clew_spec.base import Spec
from clew_spec.datasets import HubSource
from clew_spec.hub import of_path


class SecretName(StrEnum):
    """The environment variable under which a runner finds it. There are as many as there are uses."""

    HF_TOKEN = "HF_TOKEN"  # noqa: S105  # its name
    """Opens gated and private models and datasets of the Hugging Face hub."""


class SecretRequest(Spec):
    """The body of `PUT /api/v1/secrets/{name}`."""

    value: Annotated[SecretStr, Field(min_length=8, max_length=4096)]
    """Printable ASCII, as a header takes it. Short ones are none: wherever one stands in a text, it is struck out."""


def needed_by(spec: Any) -> frozenset[SecretName]:
    """What the runner of such a job is given, as far as its project has it."""
    hub = isinstance(getattr(spec, "source", None), HubSource) or of_path(getattr(spec, "path", "")) is not None
    return frozenset({SecretName.HF_TOKEN}) if hub else frozenset()
