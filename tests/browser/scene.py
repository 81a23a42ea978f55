"""A lab as its users would have left it: every row written by the queue's own moves, every file in the object store."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from clew_lab.catalogue.bootstrap import bootstrap
from clew_lab.catalogue.identity import actor_of_key
from clew_lab.catalogue.publish import Uploaded
from clew_lab.catalogue.tables import Coder, Dataset, Graph, Membership, Model, Upload, UploadedFile, User
from clew_lab.jobs import accept, claim, dispatch, finalise, report, workers
from clew_lab.jobs.events import EventType
from clew_lab.settings import Settings
from clew_lab.storage import Store, upload_prefix
from clew_lab.storage.keys import object_key
from clew_spec.coders import CoderConfig, TopK
from clew_spec.errors import Problem
from clew_spec.evaluation import AllReplaced, CoderMetrics, FrequencyHistogram, Interval, ReplacedLayer
from clew_spec.graph import GraphDocument
from clew_spec.jobs import POOL_OF, JobRequest
from clew_spec.results import (
    AnatomyProof,
    CodersResult,
    DatasetResult,
    EvaluationResult,
    GraphResult,
    Lineage,
    ModelConfig,
    ModelResult,
    Result,
    TrainedCoder,
)

LEASE_S = 600.0
LINEAGE = Lineage(code_version="test", seed=0)
MODEL_CONFIG = ModelConfig(
    architecture="LlamaForCausalLM",
    n_layers=30,
    d_model=576,
    d_mlp=1536,
    n_heads=9,
    n_kv_heads=3,
    vocab_size=49_152,
    max_context=8192,
    n_parameters=134_515_008,
)


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@dataclass
class Running:
    """A job in the hands of a worker; each method is one of the worker's transactions."""

    scene: "Scene"
    id: UUID
    fence: int
    batches: int = 0

    def tell(
        self,
        *entries: tuple[EventType, dict[str, Any]],
        metrics: Sequence[tuple[int, Mapping[str, float]]] = (),
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        self.batches += 1
        with self.scene.sessions.begin() as session:
            report.report(
                session, self.id, self.fence, list(entries), number=self.batches, metrics=metrics, progress=progress
            )

    def progress(self, phase: str, done: float, total: float, unit: str, rate: float | None = None) -> None:
        eta = None if rate is None else (total - done) / rate
        fields = {"phase": phase, "done": done, "total": total, "unit": unit, "rate": rate, "eta_s": eta}
        self.tell(("progress", fields), progress={**fields, "at": datetime.now(UTC).isoformat()})

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        self.tell(("metric", {"step": step, "values": dict(values)}), metrics=[(step, values)])

    def log(self, message: str, level: str = "info") -> None:
        self.tell(("log", {"level": level, "message": message}))

    def succeed(self, result: Result, files: Mapping[str, bytes]) -> None:
        uploaded = [self.scene.upload(self, name, content) for name, content in files.items()]
        with self.scene.sessions.begin() as session:
            finalise.succeed(session, self.id, self.fence, result, uploaded)

    def fail(self, problem: Problem) -> None:
        with self.scene.sessions.begin() as session:
            finalise.fail(session, self.id, self.fence, problem, retryable=False)

    def lose(self, problem: Problem) -> None:
        with self.scene.sessions.begin() as session:
            finalise.lost(session, self.id, self.fence, problem, max_lost=5)


@dataclass(frozen=True)
class Sent:
    """A complete upload, as it lies in the store."""

    id: UUID
    files: dict[str, bytes]


class Scene:
    def __init__(self, sessions: sessionmaker[Session], settings: Settings, scratch: Path) -> None:
        self.sessions = sessions
        self._store = Store.of(settings)
        self._scratch = scratch
        self._secret_key = settings.secret_key
        self._numbers = count()
        with sessions.begin() as session:
            key = bootstrap(session, "main", "admin", secret_key=settings.secret_key)
            assert key is not None
            self.key = key
            self._actor = actor_of_key(session, key, secret_key=settings.secret_key)

    def key_of_another_project(self) -> str:
        with self.sessions.begin() as session:
            key = bootstrap(session, "others", "guest", secret_key=self._secret_key)
            assert key is not None
            return key

    def of_another(self, name: str) -> "Scene":
        """The same lab, in which a new member of the project submits."""
        other = copy(self)
        with self.sessions.begin() as session:
            user = User(name=name, display_name=name)
            session.add(user)
            session.flush()
            session.add(Membership(project_id=self._actor.project_id, user_id=user.id, role="member"))
            other._actor = replace(self._actor, key_id=None, key_name=None, user_id=user.id, user_name=name)
        return other

    def queue(self, spec: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **fields: Any) -> UUID:
        """A job that waits."""
        request = JobRequest.model_validate({"spec": dict(spec), **fields})
        name = str(spec.get("name", spec.get("coders", spec["kind"])))
        with self.sessions.begin() as session:
            job, _ = accept.accept(session, self._actor, accept.Asked(request, name, dict(inputs or {})))
            return job.id

    def take(self, job_id: UUID, kind: str) -> Running:
        """A fresh worker takes the job that waits."""
        pool = POOL_OF[kind]  # type: ignore[index]  # the name of a kind
        with self.sessions.begin() as session:
            name = f"{pool}-{next(self._numbers)}"
            worker = workers.register(session, name, pool, device="cpu", memory_bytes=8 << 30)
        with self.sessions.begin() as session:
            bells = dispatch.dispatch(session, lease_s=30, alive_s=30)
        bell = next(bell for bell in bells if bell.job_id == job_id)
        with self.sessions.begin() as session:
            assert claim.claim(session, job_id, bell.fence, worker, lease_s=LEASE_S)
        return Running(self, job_id, bell.fence)

    def start(self, spec: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **fields: Any) -> Running:
        return self.take(self.queue(spec, inputs, **fields), str(spec["kind"]))

    def upload(self, job: Running, name: str, content: bytes) -> Uploaded:
        path = self._scratch / uuid4().hex
        path.write_bytes(content)
        sha = sha256(content).hexdigest()
        key = object_key(self._actor.project_id, job.id, job.fence, name)
        self._store.put(key, path, sha)
        return Uploaded(name, key, sha, len(content), "application/octet-stream")

    def record_of(self, table: type[Model | Dataset | Coder | Graph], job: Running) -> list[UUID]:
        with self.sessions() as session:
            return list(session.scalars(select(table.id).where(table.job_id == job.id).order_by(table.id)))

    def uploads(self) -> list[Sent]:
        with self.sessions() as session:
            found = session.scalars(select(Upload).where(Upload.state == "complete"))
            return [Sent(upload.id, self._files(session, upload)) for upload in found]

    def _files(self, session: Session, upload: Upload) -> dict[str, bytes]:
        rows = session.scalars(select(UploadedFile).where(UploadedFile.upload_id == upload.id))
        prefix = upload_prefix(upload.project_id, upload.id)
        return {row.name: self._store.read(f"{prefix}{row.number}") for row in rows}

    # --- What the jobs of a first day make --------------------------------------------------------------------------

    def model(self, name: str = "smollm2") -> UUID:
        job = self.start({"kind": "import-model", "name": name, "path": "/models/smollm2"})
        proof = AnatomyProof(max_abs_logit_difference=3.1e-5, logit_scale=24.2, dtype="float32", tokens=64)
        result = ModelResult(
            name=name,
            digest=digest(name),
            tokenizer_digest=digest("tokenizer"),
            config=MODEL_CONFIG,
            proof=proof,
            files=["model/config.json"],
            lineage=LINEAGE,
        )
        job.succeed(result, {"model/config.json": b"{}"})
        return self.record_of(Model, job)[0]

    def dataset(self, model: UUID, name: str = "pydoc") -> UUID:
        job = self.start({"kind": "build-dataset", "name": name, "model": str(model)}, {"model": str(model)})
        result = DatasetResult(
            name=name,
            digest=digest(name),
            tokenizer_digest=digest("tokenizer"),
            context=256,
            bos="none",
            train_tokens=2_411_008,
            heldout_tokens=126_976,
            n_documents=21_344,
            source={"kind": "pydoc", "packages": {"torch": "2.13.0"}},
            files=["dataset/train.bin"],
            lineage=LINEAGE,
        )
        job.succeed(result, {"dataset/train.bin": b"\0" * 4096})
        return self.record_of(Dataset, job)[0]

    def training(self, model: UUID, dataset: UUID, name: str = "first", layers: int = 10, steps: int = 200) -> Running:
        """A training job that runs and has said nothing yet."""
        spec = {
            "kind": "train",
            "name": name,
            "model": str(model),
            "dataset": str(dataset),
            "layers": list(range(layers)),
            "steps": steps,
        }
        return self.start(spec, {"model": str(model), "dataset": str(dataset)})

    def trained(self, job: Running, layers: int = 10, name: str = "first") -> list[UUID]:
        def config(layer: int) -> CoderConfig:
            return CoderConfig(
                activation=TopK(k=32),
                n_features=2304,
                d_in=576,
                d_out=576,
                layer=layer,
                model_digest=digest("smollm2"),
                tokenizer_digest=digest("tokenizer"),
                dataset_digest=digest("pydoc"),
                bos="none",
            )

        files = {f"coders/L{layer:02d}/weights.safetensors": bytes([layer]) * 5000 for layer in range(layers)}
        coders = [
            TrainedCoder(
                layer=layer,
                digest=digest(file),
                config=config(layer),
                files=[file],
                fvu_first=1.0 + layer / 100,
                fvu_last=0.3 + layer / 40,
            )
            for layer, file in enumerate(files)
        ]
        result = CodersResult(name=name, coders=coders, steps=200, tokens_seen=204_800, lineage=LINEAGE)
        job.succeed(result, files)
        return self.record_of(Coder, job)

    def evaluate(self, coders: Sequence[UUID], name: str = "first") -> Running:
        ids = [str(coder) for coder in coders]
        job = self.start({"kind": "evaluate", "coders": name}, {"coders": ids})
        counts = [*[0] * 11, 240, 380, 510, 420, 290, 160, 90, 45, 18, 16, 12, 2, 1]
        metrics = [
            CoderMetrics(
                layer=layer,
                tokens=2040,
                fvu=0.31 + layer / 40,
                l0=31.4,
                l1=57.5,
                dead=120 + layer,
                dead_fraction=(120 + layer) / 2304,
                dense=31,
                live=2184 - layer,
                frequencies=FrequencyHistogram(never=120 + layer, counts=counts, low=-6, width=0.25),
                ce_original=2.91,
                ce_spliced=3.02 + layer / 100,
                ce_zero=3.88,
                ce_mean=3.71,
                loss_recovered_zero=0.88 - layer / 100,
                loss_recovered_mean=0.86 - layer / 100,
                kl=0.117 + layer / 100,
                agreement=0.861,
                intervals={"fvu": Interval(low=0.28 + layer / 40, high=0.34 + layer / 40)},
            )
            for layer in range(len(ids))
        ]
        at_once = AllReplaced(
            tokens=2040,
            layers=[ReplacedLayer(layer=each.layer, fvu=each.fvu + 0.1, l0=each.l0) for each in metrics],
            ce_original=2.91,
            ce_spliced=4.25,
            ce_zero=9.5,
            loss_recovered_zero=0.797,
            kl=1.43,
            agreement=0.522,
            intervals={"kl": Interval(low=1.31, high=1.55)},
        )
        job.succeed(EvaluationResult(coders=metrics, coder_ids=ids, all_replaced=at_once, lineage=LINEAGE), {})
        return job

    def graph(self, coders: Sequence[UUID], document: GraphDocument) -> tuple[Running, UUID]:
        spec = {"kind": "attribute", "name": document.name, "coders": "first", "prompt": document.summary.prompt}
        job = self.start(spec, {"coders": [str(coder) for coder in coders]})
        result = GraphResult(
            name=document.name,
            digest=digest(document.name),
            summary=document.summary,
            files=["graph/graph.json"],
            lineage=LINEAGE,
        )
        job.succeed(result, {"graph/graph.json": document.model_dump_json().encode()})
        return job, self.record_of(Graph, job)[0]
