"""A job's files, brought below a folder: each under its own name, and none over another."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from clew_client.download import OnBytes
from clew_client.errors import UnexpectedAnswer
from clew_client.uploads import OnProgress
from clew_spec.api import ArtifactView
from clew_spec.errors import Conflict, Forbidden, NotFound
from clew_spec.uploads import FileName

if TYPE_CHECKING:
    from clew_client.lab import Lab

_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)


def fetch_files(
    lab: "Lab",
    artifacts: Sequence[ArtifactView],
    folder: Path,
    names: Iterable[str] = (),
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Fetch a job's artifacts, or those of these names (a folder's name is all that is in it); return where they lie.

    A file that is there with the artifact's content is kept. Raises NotFound where there is nothing of a name, and
    Conflict where another file is in the way, UnexpectedAnswer where a file's name would lead out of the folder; then
    nothing is fetched. Else as `Lab.download`.
    """
    tell = on_progress or (lambda *_: None)
    chosen = _chosen(artifacts, names)
    places = [_place(folder, artifact) for artifact in chosen]
    missing = [(artifact, path) for artifact, path in zip(chosen, places, strict=True) if not _is_at(path, artifact)]
    total = sum(artifact.size for artifact in chosen)
    moved, kept = 0, total - sum(artifact.size for artifact, _ in missing)

    def tell_after(before: int) -> OnBytes:
        return lambda size: tell("fetch", kept + before + size, total, before + size)

    for artifact, path in missing:
        _fetch(lab, artifact, path, tell_after(moved))
        moved += artifact.size
    return places


def _chosen(artifacts: Sequence[ArtifactView], names: Iterable[str]) -> list[ArtifactView]:
    if not artifacts:
        raise NotFound("the job has no files", hint="a job has them once it has succeeded")
    wanted = [name.rstrip("/") for name in names]
    for name in wanted:
        if not any(_is_of(name, artifact) for artifact in artifacts):
            raise NotFound(f"the job has no file {name}", hint="`clew artifacts` lists them")
    return [each for each in artifacts if not wanted or any(_is_of(name, each) for name in wanted)]


def _is_of(name: str, artifact: ArtifactView) -> bool:
    return artifact.name == name or artifact.name.startswith(name + "/")


def _place(folder: Path, artifact: ArtifactView) -> Path:
    try:
        return folder / _FILE_NAME.validate_python(artifact.name)
    except ValidationError as error:
        raise UnexpectedAnswer(f"{artifact.name!r} is no name of a file below {folder}") from error


def _is_at(path: Path, artifact: ArtifactView) -> bool:
    """Whether there is nothing to fetch. Raises Conflict."""
    if not os.path.lexists(path):
        return False
    if path.is_file() and path.stat().st_size == artifact.size:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256:
                return True
    raise Conflict(f"{path} is there and is another file", hint="move it away, or fetch into another folder")


def _fetch(lab: "Lab", artifact: ArtifactView, path: Path, tell: OnBytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lab.download(artifact, path, tell)
    except Forbidden:  # the files before this one may have taken longer than a link is valid
        (anew,) = [each for each in lab.artifacts(artifact.job_id) if each.id == artifact.id]
        lab.download(anew, path, tell)
