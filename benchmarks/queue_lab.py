"""A lab of its own for the measures of the queue: real servers, and as many rows as a busy lab has after years."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import Any

import httpx2
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.bench import ROOT
from clew_lab.catalogue import migrate
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.keys import SERVICE, create_key
from clew_lab.catalogue.tables import Job, Model, Project
from clew_lab.settings import Settings
from clew_local.servers import Stack
from clew_local.servers.ports import LOOPBACK, free_ports

PROJECTS = 50
LAST_WORDS = 4000
SEED_S = 1800
"""What one statement that fills a table may take."""


@dataclass
class QueueLab:
    settings: Settings
    environ: dict[str, str]
    engine: Engine
    sessions: sessionmaker[Session]
    key: str
    """Of the first project."""

    def run(self, statement: str, **values: Any) -> None:
        """One statement of the seeding. What it inserts is consistent, so it is not checked row by row."""
        with self.engine.connect() as connection:
            connection.execute(text(f"set statement_timeout = '{SEED_S}s'"))
            connection.execute(text("set session_replication_role = replica"))
            connection.execute(text(statement), values)
            connection.commit()
            connection.invalidate()

    def settle(self) -> None:
        """As autovacuum leaves a table after a while."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"set statement_timeout = '{SEED_S}s'"))
            connection.execute(text("vacuum analyze"))
            connection.invalidate()

    @contextmanager
    def api(self) -> Iterator[httpx2.Client]:
        """A running API, asked with the first project's key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        with (
            self.process("clew_api"),
            httpx2.Client(base_url=f"{self.url}/api/v1/", headers=headers, timeout=60) as client,
        ):
            wait_for(client, "session")
            yield client

    @property
    def url(self) -> str:
        """Of the API, where it runs."""
        return f"http://{LOOPBACK}:{self.settings.api_port}"

    @contextmanager
    def process(self, module: str, *words: str, **more: str) -> Iterator[None]:
        """A process of the lab, ended afterwards. more: of its environment."""
        with tempfile.TemporaryFile() as log:
            command = [sys.executable, "-m", module, *words]
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ | self.environ | more, stdout=log, stderr=log)
            try:
                yield
            except Exception as error:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS))
                error.add_note(f"{module} said last:\n{log.read().decode(errors='replace')}")
                raise
            finally:
                process.terminate()
                process.wait()

    def add_model(self, name: str) -> None:
        """A model of the first project, as its import would have left it but for its files."""
        with self.sessions.begin() as session:
            project_id = session.scalars(select(Project.id).order_by(Project.id).limit(1)).one()
            job = Job(
                project_id=project_id,
                visibility="project",
                kind="import-model",
                name=name,
                spec={"kind": "import-model", "name": name, "path": "/models/m"},
                inputs={},
                pool="train",
                priority=0,
                request_digest="0" * 64,
                state="succeeded",
                finished_at=func.now(),
            )
            session.add(job)
            session.flush()
            config = {
                "architecture": "LlamaForCausalLM",
                "n_layers": 30,
                "d_model": 576,
                "d_mlp": 1536,
                "n_heads": 9,
                "n_kv_heads": 3,
                "vocab_size": 49152,
                "max_context": 8192,
                "n_parameters": 134_515_008,
            }
            session.add(
                Model(
                    project_id=project_id,
                    job_id=job.id,
                    visibility="project",
                    name=name,
                    digest="0" * 64,
                    files=[],
                    lineage={"code_version": "bench"},
                    config=config,
                    tokenizer_digest="0" * 64,
                    proof={"max_abs_logit_difference": 0.0},
                )
            )


@contextmanager
def queue_lab() -> Iterator[QueueLab]:
    """A migrated lab of 50 projects, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="clew-bench-"))
    folder.chmod(0o711)  # Postgres passes as another user where root runs this
    stack = Stack(folder / "lab", environ={})
    try:
        stack.start()
        environ = stack.endpoints().environment() | {
            "CLEW_SECRET_KEY": token_hex(32),
            "CLEW_DATA_DIR": str(folder / "data"),
            "CLEW_API_HOST": LOOPBACK,
            "CLEW_API_PORT": str(free_ports(1)[0]),
        }
        settings = Settings.model_validate(
            {name.removeprefix("CLEW_").lower(): value for name, value in environ.items()}
        )
        url = settings.database_url.get_secret_value()
        migrate.upgrade(url)
        engine = make_engine(url)
        sessions = session_factory(engine)
        with sessions.begin() as session:
            session.execute(
                text("insert into projects (name, weight) select 'p' || n, 1 + n % 3 from generate_series(1, :n) n"),
                {"n": PROJECTS},
            )
            first = session.scalars(select(Project).order_by(Project.id).limit(1)).one()
            key = create_key(session, first, "bench", scopes=SERVICE, secret_key=settings.secret_key)[1]
        yield QueueLab(settings, environ, engine, sessions, key)
        engine.dispose()
    finally:
        stack.destroy()
        rmtree(folder, ignore_errors=True)


def wait_for(client: httpx2.Client, path: str, seconds: float = 60) -> None:
    """Returns when the server is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.get(path).raise_for_status()
        except httpx2.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
