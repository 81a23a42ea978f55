"""A job, as Python sees it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from clew_client.curves import WHOLE_CURVE, Curves
from clew_client.documents import Document
from clew_client.errors import JobFailed
from clew_client.files import fetch_files
from clew_client.uploads import OnProgress
from clew_spec.api import ArtifactView, EventView, JobView
from clew_spec.jobs import JobState, Visibility

if TYPE_CHECKING:
    from clew_client.lab import Lab

OnEvent = Callable[[EventView], None]


class Job:
    """A job and the lab it runs in; `view` is the job as last seen."""

    def __init__(self, lab: "Lab", view: JobView) -> None:
        self._lab = lab
        self.view = view

    def __repr__(self) -> str:
        return f"Job({self.view.kind} {self.view.name!r}, {self.view.state}, {self.id})"

    @property
    def id(self) -> UUID:
        return self.view.id

    @property
    def state(self) -> JobState:
        return self.view.state

    def refresh(self) -> Self:
        self.view = self._lab.job(self.id).view
        return self

    def wait(self, on_event: OnEvent | None = None, *, check: bool = False) -> JobView:
        self.view = self._lab.wait(self.id, on_event)
        if check and self.state is not JobState.SUCCEEDED:
            raise JobFailed(self.view)
        return self.view

    def cancel(self) -> JobView:
        self.view = self._lab.cancel(self.id)
        return self.view

    def share(self, to: Visibility = "lab", *, with_inputs: bool = False) -> JobView:
        """As `Lab.share`."""
        self.view = self._lab.share(self.id, to, with_inputs=with_inputs)
        return self.view

    def retry(self, *, with_dependents: bool = False) -> "Job":
        """As `Lab.retry`."""
        return self._lab.retry(self.id, with_dependents=with_dependents)

    def clone(self, changes: Mapping[str, Any] = {}) -> "Job":
        """As `Lab.clone`."""
        return self._lab.clone(self.id, changes)

    def events(self, after: int | None = None) -> Iterator[EventView]:
        return self._lab.events(self.id, after)

    def metrics(self, names: Iterable[str] = (), max_points: int = WHOLE_CURVE) -> Curves:
        """As `Lab.metrics`: `job.metrics().frame()` is a table."""
        return self._lab.metrics(self.id, names, max_points)

    def document(self) -> Document:
        """As `Lab.document`."""
        self.wait(check=True)
        return self._lab.document(self.id)

    def artifacts(self) -> list[ArtifactView]:
        return self._lab.artifacts(self.id)

    def download(
        self, folder: Path | str, names: Iterable[str] = (), on_progress: OnProgress | None = None
    ) -> list[Path]:
        """Its files below `folder`, which is made if it is not there; all, or those of `names`. As `fetch_files`."""
        return fetch_files(self._lab, self.artifacts(), Path(folder), names, on_progress)
