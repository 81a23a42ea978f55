"""Turn what a job made into catalogue records, in the transaction that ends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import Artifact, Coder, Dataset, Graph, Job, Model
from clew_spec.errors import DataError
from clew_spec.results import (
    CodersResult,
    ConnectionsResult,
    DatasetResult,
    EdgeResult,
    EvaluationResult,
    ExportResult,
    FaithfulnessResult,
    GraphResult,
    Lineage,
    MeanEdgesResult,
    ModelResult,
    PatchResult,
    PathsResult,
    QKResult,
    Result,
    SteerResult,
)

NO_RECORD = (
    ExportResult
    | FaithfulnessResult
    | PatchResult
    | EdgeResult
    | QKResult
    | MeanEdgesResult
    | ConnectionsResult
    | PathsResult
    | SteerResult
)


@dataclass(frozen=True)
class Uploaded:
    """A file that lies in the object store already."""

    name: str
    key: str
    sha256: str
    size: int
    media_type: str


def publish(session: Session, job: Job, result: Result, files: Sequence[Uploaded]) -> list[UUID]:
    """Artifacts and records of a locked job; returns the ids of the records.

    Raises `DataError` where the result names a file that was not uploaded, or coders the job was not given.
    """
    missing = sorted(set(_named(result)) - {file.name for file in files})
    if missing:
        raise DataError(f"the result names files that were not made: {', '.join(missing[:5])}")
    if len({file.name for file in files}) < len(files):
        raise DataError("two files of the result have the same name")
    session.add_all(
        Artifact(
            project_id=job.project_id,
            job_id=job.id,
            fence=job.fence,
            name=file.name,
            key=file.key,
            sha256=file.sha256,
            size=file.size,
            media_type=file.media_type,
        )
        for file in files
    )
    if isinstance(result, EvaluationResult):
        return _evaluated(session, job, result)
    if isinstance(result, NO_RECORD):
        return []
    records = _records(session, job, result)
    session.add_all(records)
    session.flush()
    return [record.id for record in records]


def published_key(session: Session, project_id: UUID, sha256: str, size: int) -> str | None:
    """Where this content lies already. Only inside the project: else a guess at a digest would reveal a file."""
    same = select(Artifact.key).where(
        Artifact.project_id == project_id, Artifact.sha256 == sha256, Artifact.size == size
    )
    return session.scalar(same.limit(1))


def _named(result: Result) -> list[str]:
    if isinstance(result, CodersResult):
        return [name for coder in result.coders for name in coder.files]
    return [] if isinstance(result, EvaluationResult | SteerResult) else result.files


def _records(
    session: Session, job: Job, result: ModelResult | DatasetResult | CodersResult | GraphResult
) -> list[Model | Dataset | Coder | Graph]:
    common = {
        "project_id": job.project_id,
        "job_id": job.id,
        "visibility": job.visibility,
        "name": result.name,
        "lineage": _lineage(job, result.lineage),
    }
    match result:
        case ModelResult():
            return [
                Model(
                    **common,
                    digest=result.digest,
                    files=result.files,
                    config=result.config.model_dump(mode="json"),
                    tokenizer_digest=result.tokenizer_digest,
                    proof=result.proof.model_dump(mode="json"),
                )
            ]
        case DatasetResult():
            same = result.model_dump(mode="json", exclude={"kind", "name", "lineage"})
            return [Dataset(**common, **same)]
        case CodersResult():
            return [
                Coder(
                    **(common | {"name": coder_name(result.name, coder.variant)}),
                    digest=coder.digest,
                    files=coder.files,
                    layer=coder.layer,
                    config=coder.config.model_dump(mode="json"),
                    model_id=_model_of(session, job),
                    dataset_id=UUID(job.inputs["dataset"]) if "dataset" in job.inputs else None,
                    fvu_first=coder.fvu_first,
                    fvu_last=coder.fvu_last,
                )
                for coder in result.coders
            ]
        case GraphResult():
            return [
                Graph(
                    **common,
                    digest=result.digest,
                    files=result.files,
                    model_id=_model_of(session, job),
                    summary=result.summary.model_dump(mode="json"),
                )
            ]


def coder_name(name: str, variant: str | None) -> str:
    """Coders of a job that trains several a layer are sets of their own."""
    return name if variant is None else f"{name}.{variant}"


def _evaluated(session: Session, job: Job, result: EvaluationResult) -> list[UUID]:
    """Note the metrics with the coders. Those that another project shows to the lab stay as they are."""
    given = set(job.inputs.get("coders", []))
    if len(result.coders) != len(result.coder_ids) or not given.issuperset(result.coder_ids):
        raise DataError("the evaluation is not of the coders it was given")
    for id, metrics in zip(result.coder_ids, result.coders, strict=True):
        session.execute(
            update(Coder)
            .where(Coder.id == UUID(id), Coder.project_id == job.project_id)
            .values(metrics=metrics.model_dump(mode="json"), evaluated_by=job.id)
        )
    return [UUID(id) for id in result.coder_ids]


def _lineage(job: Job, lineage: Lineage) -> dict[str, Any]:
    """The parents are what the job was accepted with, whatever the runner says."""
    parents: list[str] = []
    for field, value in job.inputs.items():
        if field != "upload":  # no record: its files are told in `source`
            parents += value if isinstance(value, list) else [value]
    return {**lineage.model_dump(mode="json"), "parents": parents}


def _model_of(session: Session, job: Job) -> UUID:
    if "model" in job.inputs:
        return UUID(job.inputs["model"])
    return session.scalars(select(Coder.model_id).where(Coder.id == UUID(job.inputs["coders"][0]))).one()
