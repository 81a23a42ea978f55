"""What a handler is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch

from clew_spec.base import Spec
from clew_spec.results import Lineage
from clew_spec.runner import UPLOADED, RunJob
from clew_spec.uploads import split_ref
from clew_worker.runner.channel import Outbox

S = TypeVar("S", bound=Spec, covariant=True)

Record = dict[str, Any]


@dataclass(frozen=True)
class Work(Generic[S]):
    job: RunJob
    spec: S
    inputs: Path
    """Holds `model/`, `dataset/`, `coders/L03/` or `coders/L03.k16/`, `graph/`, as far as the spec refers to them."""
    resume: Path | None
    """The last registered checkpoint's files."""
    out: Path
    """Inside scratch; what a handler writes here it may hand over as artifacts."""
    report: Outbox

    @property
    def model_record(self) -> Record:
        return cast(Record, self.job.records["model"])

    @property
    def dataset_record(self) -> Record:
        return cast(Record, self.job.records["dataset"])

    @property
    def coder_records(self) -> list[Record]:
        return sorted(cast(list[Record], self.job.records["coders"]), key=lambda record: record["layer"])

    @property
    def dtype(self) -> torch.dtype:
        name = getattr(self.spec, "dtype", "float32")
        return cast(torch.dtype, getattr(torch, name))

    def source(self, path: str) -> tuple[Path, list[Path]]:
        """Where that which a path of the spec names lies, and the folders that it may not lead out of."""
        ref = split_ref(path)
        if ref is None:
            return Path(path), [Path(root) for root in self.job.import_roots]
        root = self.inputs / UPLOADED
        files = self.job.records["upload"]["files"]
        inner = ref[1] or (next(iter(files)) if len(files) == 1 else "")
        return root / inner, [root]

    @property
    def uploaded(self) -> dict[str, Any] | None:
        """What a lineage tells of the upload that was read: its name, and the sha256 of each file."""
        record = self.job.records.get("upload")
        return record and {"upload": record["name"], "files": record["files"]}

    def document(self, name: str, content: Spec) -> str:
        """Hand over one JSON file of the result; returns its name."""
        return self.file(name, content.model_dump_json(indent=1) + "\n")

    def file(self, name: str, content: str) -> str:
        """Hand over one file of the result; returns its name."""
        path = self.out / name
        path.write_text(content, encoding="utf-8")
        self.report.artifact(name, path)
        return name

    def lineage(self, *, seed: int | None = None) -> Lineage:
        """Everything that determined the result, from the records the job was given."""
        records = self.job.records
        coders = self.coder_records if "coders" in records else []
        singles = [records[field] for field in ("model", "dataset", "graph") if field in records]
        model, dataset = records.get("model"), records.get("dataset")
        return Lineage(
            code_version=self.job.code_version,
            seed=seed,
            model_digest=model["digest"] if model else None,
            tokenizer_digest=model["tokenizer_digest"] if model else None,
            dataset_digest=dataset["digest"] if dataset else None,
            coder_digests=[coder["digest"] for coder in coders],
            parents=[str(record["id"]) for record in [*singles, *coders]],
            source=self.uploaded,
        )
