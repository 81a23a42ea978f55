"""Everything that is set from outside, read from `CLEW_*` environment variables."""

import os
import shlex
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MISSED_BEATS = 3


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CLEW_", frozen=True, use_attribute_docstrings=True)

    database_url: SecretStr
    """`postgresql+psycopg://user:password@host:port/database`"""
    redis_url: SecretStr
    s3_endpoint: str
    """`host:port` of any S3 server."""
    s3_public_url: str | None = None
    """How browsers and runners reach the S3 server, where that differs: `https://s3.lab.example`."""
    s3_secure: bool = False
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr
    s3_secret_key: SecretStr
    s3_bucket: str = "clew"
    secret_key: SecretStr = Field(min_length=32)
    """Keys the HMAC under which API keys and sessions are stored, and seals secrets of projects. Changing it signs
    everybody out, and secrets have to be set anew."""

    import_roots: Annotated[list[Path], NoDecode] = []
    """Folders that `import-model`, `import-coders` and `import-graph` may read, separated as in PATH."""
    data_dir: Path = Path("/var/lib/clew")
    """Where a worker keeps scratch folders and fetched inputs."""
    machine: str | None = None
    """Workers of one name share CPUs and memory; those of one kernel if not given, so containers with a limit of their
    own are to be given names."""
    dashboard_dir: Path | None = None
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    trusted_proxies: str = "127.0.0.1,::1"
    """Addresses or networks, separated by commas, of proxies whose word for the browser's scheme and address counts."""
    code_version: str = "unknown"
    """Recorded with every result; a commit hash where there is one."""

    db_password_api: SecretStr | None = None
    db_password_scheduler: SecretStr | None = None
    db_password_worker: SecretStr | None = None
    """Of the roles `clew_api`, `clew_scheduler` and `clew_worker`, for who migrates: see `clew_lab.catalogue.roles`."""
    metrics_port: int | None = None
    """Where scheduler and workers show their metrics to Prometheus; of several workers the next has the next port."""
    metrics_host: str = "127.0.0.1"
    metrics_token: SecretStr | None = None
    """What Prometheus has to show at the API's `/metrics`; anyone may read them there if not given."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is JSON, one line for each thing that happened, but for people where it is written to a terminal."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    dispatch_lease_s: float = 30
    """A bell that no worker answers in this time is rung again."""
    running_lease_s: float = 60
    """A running job whose worker is silent for this long is given to another."""
    beat_s: float = 10
    """How often a worker renews its lease."""
    fence_after_s: float = 30
    """A worker that could not renew for this long ends its runner..."""
    kill_grace_s: float = 10
    """...asking first, and by SIGKILL after this long; together less than the lease, so two never run."""
    checkpoint_grace_s: float = 60
    """How long a preempted runner may take to write a checkpoint before it is ended all the same."""
    poll_s: float = 1
    """How often the scheduler looks without being notified."""
    reserve_after_s: float = 600
    """How long a job that few workers can hold is passed by smaller ones before such a worker is kept for it."""
    standing_s: float = Field(default=2, gt=0, le=4)
    """How often the scheduler says of every waiting job where it stands; that is never to be older than 5 seconds."""
    max_lost: int = 5
    """Workers that may be lost under one job before the job is failed."""
    upload_patience_s: float = 300
    """How long an attempt waits for the object store before it is given up."""
    keep_leftovers_s: float = 3600
    """Objects that an ended job did not publish are deleted after this long."""
    keep_checkpoints_s: float = 7 * 86400
    """...but the last checkpoint of one that did not succeed, from which a retry goes on, after this long."""
    keep_open_uploads_s: float = 7 * 86400
    """An upload of which no part is asked for is deleted after this long."""
    keep_uploads_s: float = 30 * 86400
    """A complete upload is deleted after this long; what jobs made of it stays."""
    cache_bytes: int = 50 * 2**30
    """What a worker keeps of fetched inputs, least recently used first to go."""
    runner_max_jobs: int = 50
    """Circuit jobs of one project that a warm runner serves before a fresh one replaces it."""
    runner_keep_bytes: int = 4 * 2**30
    """Models and coders that a warm runner holds from job to job; a job that needs more itself finds room for that."""
    runner_command: Annotated[list[str], NoDecode] = [sys.executable, "-m", "clew_worker.runner"]
    """What a worker starts as its runner; as an environment variable, words as in a shell."""
    runner_threads: int | None = None
    """CPU threads of a runner; torch's own choice if not given."""
    hf_offline: bool = True
    """Runners ask no model hub."""

    @property
    def alive_s(self) -> float:
        """A worker whose last beat is older counts as gone, and is given nothing."""
        return MISSED_BEATS * self.beat_s

    @field_validator("import_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("runner_command", mode="before")
    @classmethod
    def _split_command(cls, value: object) -> object:
        return shlex.split(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _a_holder_dies_before_its_lease(self) -> Self:
        if self.fence_after_s + self.kill_grace_s >= self.running_lease_s:
            raise ValueError("fence_after_s + kill_grace_s must be less than running_lease_s, or two may run one job")
        if self.beat_s >= self.fence_after_s:
            raise ValueError("beat_s must be less than fence_after_s")
        return self


@lru_cache
def settings() -> Settings:
    return Settings()
