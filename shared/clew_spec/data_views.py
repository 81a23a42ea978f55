"""What the API answers of uploads and secrets."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from clew_spec.api import View
from clew_spec.secrets import SecretName


class UploadFileView(View):
    name: str
    size: int
    sha256: str


class UploadView(View):
    id: UUID
    name: str
    project: str
    user: str | None
    state: Literal["open", "complete"]
    """Jobs can name it once it is `complete`."""
    size: int
    """Bytes of all files."""
    files: int
    created_at: datetime
    completed_at: datetime | None
    expires_at: datetime
    """It is deleted after this, unless a job that has not ended needs it. Asking for links puts it off."""


class UploadDetail(UploadView):
    contents: list[UploadFileView]
    ref: str
    """What a job's `path` takes to mean it."""


class PartView(View):
    """A part that is missing, and where to PUT it."""

    file: str
    number: int
    """From 1."""
    offset: int
    size: int
    """The link takes exactly so many bytes."""
    url: str
    """Presigned; valid for 15 minutes."""


class SecretView(View):
    """Its value is never shown."""

    name: SecretName
    user: str | None
    """Who set it."""
    set_at: datetime
