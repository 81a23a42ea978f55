"""A catalogue with true rows in it, as finished jobs would have left them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker
from tokenizers import Tokenizer, models, pre_tokenizers

from clew_lab.catalogue import identity
from clew_lab.catalogue.keys import create_key
from clew_lab.catalogue.passwords import hashed
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.tables import (
    ApiKey,
    Artifact,
    Batch,
    Coder,
    Dataset,
    Event,
    Graph,
    Job,
    Membership,
    Metric,
    Model,
    Project,
    Upload,
    UploadedFile,
    User,
)
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_spec.graph import GraphDocument, GraphSummary
from clew_spec.people import PERMISSIONS, Role

N_LAYERS, MAX_CONTEXT, CONTEXT = 4, 512, 16
WORDS = ("when", "mary", "and", "john", "went", "home", "<s>")
LINEAGE = {"code_version": "test", "parents": []}


def tokenizer_json() -> bytes:
    """One token a word."""
    vocabulary = {"<unk>": 0} | {word: index for index, word in enumerate(WORDS, 1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer.to_str().encode()


SUMMARY: dict[str, Any] = {
    "prompt": "when mary",
    "tokens": ["when", "mary"],
    "token_ids": [1, 2],
    "bos": "none",
    "n_layers": N_LAYERS,
    "coder_layers": [0, 1],
    "n_nodes": 3,
    "n_edges": 2,
    "targets": [{"token": "and", "token_id": 3, "probability": 0.5, "logit": 1.5}],
    "conservation": {
        "max_relative_to_edges": 1e-7,
        "p99_relative_to_value": 1e-6,
        "nodes": 2,
        "dtype": "float32",
    },
    "selection": {"rule": "influence", "active": 3, "selected": 2, "explained_share": 0.75},
    "scores": {
        "replacement": 0.5,
        "completeness": 0.75,
        "error_share": 0.25,
        "error_parts": {"no_coder": 0.1, "position_0": 0.05, "coder_error": 0.06, "unselected": 0.04},
    },
}


def graph_document() -> GraphDocument:
    labels = [f"node {n} " + "x" * 60 for n in range(40)]
    nodes = [
        {
            "id": n,
            "type": "feature",
            "layer": 0,
            "position": 1,
            "feature": n,
            "label": label,
            "value": 1,
            "influence": 0,
        }
        for n, label in enumerate(labels)
    ]
    whole = {"name": "g", "summary": SUMMARY, "nodes": nodes, "edges": [], "paths": []}
    return GraphDocument.model_validate(whole)


PASSWORD = "thread of the labyrinth"


@cache
def _of_no_password() -> str:
    return hashed(SecretStr(token_urlsafe()))


@dataclass
class Tenant:
    """A project of the lab, and a person in it with their key."""

    project: Project
    key: str
    key_id: UUID
    user_id: UUID
    role: Role = Role.ADMIN

    @property
    def actor(self) -> Actor:
        name = self.project.name
        return Actor(
            self.project.id, name, self.key_id, f"{name}'s key", self.user_id, name, self.role, PERMISSIONS[self.role]
        )

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class World:
    """Each method is one transaction and returns the row it made."""

    def __init__(self, sessions: sessionmaker[Session], settings: Settings, scratch: Path) -> None:
        self.sessions = sessions
        self.settings = settings
        self.store = Store.of(settings)
        self._scratch = scratch

    def add(self, *rows: Any) -> None:
        with self.sessions.begin() as session:
            session.add_all(rows)
            session.flush()
            for row in rows:
                session.refresh(row)

    def tenant(self, name: str) -> Tenant:
        """A project and its one admin, both of this name."""
        project = Project(name=name)
        self.add(project)
        return self.member(project, name, Role.ADMIN)

    def member(self, project: Project, name: str, role: Role, *, admin: bool = False) -> Tenant:
        """A new person in the project; `admin`: of the lab."""
        user = User(name=name, display_name=name.title(), admin=admin)
        self.add(user)
        self.add(Membership(project_id=project.id, user_id=user.id, role=role.value))
        row, key = self.key(project, user, f"{name}'s key")
        return Tenant(project, key, row.id, user.id, role)

    def key(self, project: Project, user: User | None, name: str = "key", **options: Any) -> tuple[ApiKey, str]:
        with self.sessions.begin() as session:
            return create_key(session, project, name, user=user, secret_key=self.settings.secret_key, **options)

    def sign_in(self, user_id: UUID) -> tuple[BrowserSession, str]:
        """By a password that nobody knows; with the cookie."""
        with self.sessions.begin() as session:
            session.get_one(User, user_id).password = stored = _of_no_password()
            session.flush()
            shown = identity.Shown(User, user_id, stored)
            return identity.open_session(session, shown, secret_key=self.settings.secret_key)

    def set_password(self, tenant: Tenant, password: str = PASSWORD) -> None:
        with self.sessions.begin() as session:
            session.get_one(User, tenant.user_id).password = hashed(SecretStr(password))

    def job(self, owner: Tenant, *, kind: str = "import-model", visibility: str = "project", **fields: Any) -> Job:
        """Waiting, unless told otherwise."""
        spec = fields.pop("spec", {"kind": "import-model", "name": "m", "path": "/models/m"})
        row = Job(
            project_id=owner.project.id,
            visibility=visibility,
            kind=kind,
            name="m",
            spec=spec,
            inputs={},
            pool="train",
            priority=0,
            request_digest="0" * 64,
            **fields,
        )
        self.add(row)
        return row

    def batch(self, owner: Tenant, job: Job, **fields: Any) -> Batch:
        """A sweep of this one job."""
        columns = {"kind": "sweep", "name": "s", "size": 1, "request_digest": "0" * 64}
        row = Batch(project_id=owner.project.id, **(columns | fields))
        self.add(row)
        self.touch(job, batch_id=row.id, step="steps=5")
        return row

    def file(self, job: Job, name: str, content: bytes) -> Artifact:
        digest = hashlib.sha256(content).hexdigest()
        path = self._scratch / uuid4().hex
        path.write_bytes(content)
        key = f"projects/{job.project_id}/jobs/{job.id}/1/{name}"
        self.store.put(key, path, digest)
        row = Artifact(
            project_id=job.project_id,
            job_id=job.id,
            fence=1,
            name=name,
            key=key,
            sha256=digest,
            size=len(content),
            media_type="application/json",
        )
        self.add(row)
        return row

    def _record(self, owner: Tenant, name: str, visibility: str, job: Job | None, files: list[str]) -> dict[str, Any]:
        job = job or self.job(owner, visibility=visibility)
        return {
            "project_id": owner.project.id,
            "job_id": job.id,
            "visibility": visibility,
            "name": name,
            "digest": hashlib.sha256(uuid4().bytes).hexdigest(),
            "files": files,
            "lineage": LINEAGE,
        }

    def model(
        self,
        owner: Tenant,
        name: str = "m",
        *,
        visibility: str = "project",
        tokenizer_digest: str = "a" * 64,
        job: Job | None = None,
        **sizes: Any,
    ) -> Model:
        """Of this job; of one that waits, if not given."""
        job = job or self.job(owner, visibility=visibility)
        self.file(job, "model/tokenizer.json", tokenizer_json())
        config = {
            "architecture": "LlamaForCausalLM",
            "n_layers": N_LAYERS,
            "d_model": 8,
            "d_mlp": 16,
            "n_heads": 2,
            "n_kv_heads": 1,
            "vocab_size": 8,
            "max_context": MAX_CONTEXT,
            "n_parameters": 1000,
        }
        row = Model(
            **self._record(owner, name, visibility, job, ["model/tokenizer.json"]),
            config=config | sizes,
            tokenizer_digest=tokenizer_digest,
            proof={"max_abs_logit_difference": 0.0},
        )
        self.add(row)
        return row

    def dataset(self, owner: Tenant, name: str = "d", *, visibility: str = "project", **fields: Any) -> Dataset:
        columns = {
            "tokenizer_digest": "a" * 64,
            "context": CONTEXT,
            "bos": "none",
            "train_tokens": 16_000,
            "heldout_tokens": 4096,
            "n_documents": 10,
            "source": {"kind": "pydoc"},
        }
        row = Dataset(**self._record(owner, name, visibility, None, []), **(columns | fields))
        self.add(row)
        return row

    def coders(
        self,
        owner: Tenant,
        model: Model,
        dataset: Dataset,
        name: str = "set",
        *,
        layers: tuple[int, ...] = (0, 1),
        visibility: str = "project",
        bos: str = "none",
        crossing: bool = False,
        **of_config: Any,
    ) -> list[Coder]:
        job = self.job(owner, visibility=visibility)
        rows = []
        for layer in layers:
            config = {
                "kind": "transcoder",
                "activation": {"kind": "topk", "k": 2},
                "n_features": 32,
                "d_in": 8,
                "d_out": 8,
                "layer": layer,
                "model_digest": model.digest,
                "tokenizer_digest": model.tokenizer_digest,
                "dataset_digest": dataset.digest,
                "bos": bos,
                **of_config,
            }
            if crossing:
                later = [each for each in layers if each > layer]
                config |= {"kind": "cross-layer-transcoder", "later_layers": later}
            record = self._record(owner, name, visibility, job, [])
            parents = {"model_id": model.id, "dataset_id": dataset.id, "fvu_first": 1.0, "fvu_last": 0.25}
            rows.append(Coder(**record, layer=layer, config=config, **parents))
        self.add(*rows)
        return rows

    def graph(self, owner: Tenant, model: Model, name: str = "g", *, visibility: str = "project") -> Graph:
        job = self.job(owner, visibility=visibility)
        self.file(job, "graph/graph.json", graph_document().model_dump_json().encode())
        record = self._record(owner, name, visibility, job, ["graph/graph.json"])
        row = Graph(**record, model_id=model.id, summary=GraphSummary.model_validate(SUMMARY).model_dump())
        self.add(row)
        return row

    def upload(self, owner: Tenant, name: str = "u") -> Upload:
        """An open one of an empty file."""
        row = Upload(
            project_id=owner.project.id,
            name=name,
            digest=uuid4().hex,
            size=0,
            state="open",
            user_id=owner.user_id,
            expires_at=func.now() + text("interval '1 day'"),
        )
        self.add(row)
        whole = {"number": 0, "name": "a.txt", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
        self.add(UploadedFile(project_id=owner.project.id, upload_id=row.id, **whole))
        return row

    def touch(self, job: Job, **fields: Any) -> None:
        """Change columns of a job as its queue would, `updated_at` included."""
        with self.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job.id).values(**({"updated_at": func.now()} | fields)))

    def revoke(self, tenant: Tenant) -> None:
        with self.sessions.begin() as session:
            session.execute(update(ApiKey).where(ApiKey.id == tenant.key_id).values(revoked_at=func.now()))

    def cut_connections(self) -> None:
        """Every other connection to this database is lost at once, as when the server restarts."""
        others = "datname = current_database() and pid <> pg_backend_pid()"
        with self.sessions.begin() as session:
            session.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"))  # noqa: S608

    def append(self, job_id: UUID, count: int, *, type: str = "log") -> None:
        """Events numbered under the row's lock, as the queue does it."""
        with self.sessions.begin() as session:
            job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
            for seq in range(job.last_seq + 1, job.last_seq + 1 + count):
                data = {"level": "info", "message": f"event {seq}"}
                session.add(
                    Event(project_id=job.project_id, job_id=job.id, seq=seq, fence=job.fence, type=type, data=data)
                )
            job.last_seq += count

    def metric(self, job: Job, name: str, points: dict[int, float], *, fence: int = 1, hidden: bool = False) -> None:
        owner = {"project_id": job.project_id, "job_id": job.id}
        self.add(
            *(
                Metric(**owner, name=name, step=step, fence=fence, value=value, hidden=hidden)
                for step, value in points.items()
            )
        )
