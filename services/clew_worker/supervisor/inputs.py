"""What a runner is told: the spec, the records it refers to, links to their files, the checkpoint to continue from."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from clew_lab.catalogue import uploads
from clew_lab.catalogue.tables import Artifact, Coder, Dataset, Graph, Job, Model
from clew_lab.settings import Settings
from clew_lab.storage import Store, upload_prefix
from clew_lab.storage.store import PRESIGNED_FOR_RUNNERS
from clew_spec.errors import DataError
from clew_spec.jobs import JobSpec
from clew_spec.runner import UPLOADED, Input, RunJob

Named = Model | Dataset | Coder | Graph
TABLES: dict[str, type[Named]] = {"model": Model, "dataset": Dataset, "coders": Coder, "graph": Graph}
SPEC: TypeAdapter[Any] = TypeAdapter(JobSpec)
NO_WEIGHTS = frozenset({"build-dataset", "import-graph"})
"""Kinds that need a model's tokenizer alone."""


def run_job(
    session: Session, store: Store, job: Job, settings: Settings, *, scratch: Path, cache: Path, device: str
) -> RunJob:
    """The message that starts the job. Raises `DataError` where a record or one of its files is gone."""
    records: dict[str, Any] = {}
    inputs: list[Input] = []
    for field, ids in job.inputs.items():
        if field == "upload":
            records[field], files = _upload(session, store, UUID(ids))
            inputs += files
            continue
        rows = [_row(session, field, id) for id in (ids if isinstance(ids, list) else [ids])]
        records[field] = [as_dict(row) for row in rows] if isinstance(ids, list) else as_dict(rows[0])
        for row in rows:
            inputs += [file for file in _files(session, store, row) if job.kind not in NO_WEIGHTS or not _weights(file)]
    checkpoint = job.checkpoint or {"files": [], "step": None}
    return RunJob(
        job_id=str(job.id),
        project_id=str(job.project_id),
        fence=job.fence,
        spec=SPEC.validate_python(job.spec, strict=False),
        records=records,
        inputs=inputs,
        resume=[_input(store, file["name"], file["key"], file["sha256"], file["size"]) for file in checkpoint["files"]],
        resume_step=checkpoint["step"],
        scratch=str(scratch),
        cache=str(cache),
        import_roots=[str(root) for root in settings.import_roots],
        device=device.partition(":")[0],
        threads=settings.runner_threads,
        keep_bytes=settings.runner_keep_bytes,
        code_version=settings.code_version,
    )


def _weights(file: Input) -> bool:
    return file.name.endswith(".safetensors")


def as_dict(row: Named) -> dict[str, Any]:
    """All columns of a record, as JSON has them."""
    return {column.key: _plain(getattr(row, column.key)) for column in row.__mapper__.column_attrs}


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _row(session: Session, field: str, id: str) -> Named:
    row = cast(Named | None, session.get(TABLES[field], UUID(id)))
    if row is None:
        raise DataError(f"the {field} {id} is gone", where=f"/spec/{field}")
    return row


def _files(session: Session, store: Store, row: Named) -> list[Input]:
    """The record's artifacts, under the names by which they were published."""
    found: Sequence[Artifact] = session.scalars(
        select(Artifact)
        .where(Artifact.project_id == row.project_id, Artifact.job_id == row.job_id, Artifact.name.in_(row.files))
        .order_by(Artifact.name)
    ).all()
    if len(found) != len(row.files):
        raise DataError(f"{row.name} ({row.id}) lacks some of its files")
    return [_input(store, file.name, file.key, file.sha256, file.size) for file in found]


def _upload(session: Session, store: Store, id: UUID) -> tuple[dict[str, Any], list[Input]]:
    """What a job's record of it tells, and its files below `upload/`. The runner holds each against its sha256."""
    found = uploads.files_of(session, id)
    if found is None:
        raise DataError("the upload is gone", where="/spec", hint="upload the files again: `clew upload`")
    upload, files = found
    prefix = upload_prefix(upload.project_id, upload.id)
    inputs = [
        _input(store, f"{UPLOADED}/{file.name}", f"{prefix}{file.number}", file.sha256, file.size) for file in files
    ]
    sums = {file.name: file.sha256 for file in files}
    return {"id": str(upload.id), "name": upload.name, "files": sums}, inputs


def _input(store: Store, name: str, key: str, sha256: str, size: int) -> Input:
    return Input(name=name, url=store.link(key, lasts=PRESIGNED_FOR_RUNNERS), sha256=sha256, size=size)
