"""Everything that is set from outside, read from `CLEW_*` environment variables."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


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
    """Keys the HMAC under which API keys and sessions are stored. Changing it signs everybody out."""

    import_roots: Annotated[list[Path], NoDecode] = []
    """Folders that `import-model` may read, separated as in PATH."""
    data_dir: Path = Path("/var/lib/clew")
    """Where a worker keeps scratch folders and fetched inputs."""
    dashboard_dir: Path | None = None
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    code_version: str = "unknown"
    """Recorded with every result; a commit hash where there is one."""

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
    poll_s: float = 1
    """How often the scheduler looks without being notified."""
    max_lost: int = 5
    """Workers that may be lost under one job before the job is failed."""

    @field_validator("import_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


@lru_cache
def settings() -> Settings:
    return Settings()
