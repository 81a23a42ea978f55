"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    *("projects", "workers", "api_keys", "audit", "jobs", "sessions"),
    *("attempts", "events", "metrics", "artifacts", "models", "datasets", "coders", "graphs"),
)


def upgrade() -> None:
    op.create_table(
        "projects",
        _id(),
        _text("name"),
        sa.Column("weight", sa.Float(53), server_default=sa.text("1"), nullable=False),
        _now("created_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.CheckConstraint("weight > 0", name="weight"),
    )
    op.create_table(
        "workers",
        _id(),
        _text("name"),
        _text("pool"),
        _text("device"),
        _count("memory_bytes", None),
        _false("draining"),
        _now("started_at"),
        _now("beat_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "api_keys",
        _id(),
        _uuid("project_id"),
        _text("name"),
        _text("hint"),
        _text("digest"),
        _false("admin"),
        _now("created_at"),
        _time("expires_at"),
        _time("revoked_at"),
        _time("last_used_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "sessions",
        _id(),
        _uuid("key_id"),
        _text("digest"),
        _now("created_at"),
        _time("expires_at", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"]),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        _now("at"),
        _uuid("project_id", nullable=True),
        _uuid("key_id", nullable=True),
        _text("action"),
        _text("target"),
        _text("request_id", nullable=True),
        _json("data", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
    )
    _create_jobs()
    _create_parts_of_jobs()
    _create_records()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        _id(),
        _uuid("project_id"),
        _text("visibility"),
        _text("kind"),
        _text("name"),
        _json("spec"),
        _json("inputs"),
        _text("pool"),
        sa.Column("priority", sa.Integer, nullable=False),
        _text("idempotency_key", nullable=True),
        _text("request_digest"),
        _uuid("created_by", nullable=True),
        _text("state", server_default="queued"),
        _count("fence"),
        _time("lease_expires_at"),
        _uuid("worker_id", nullable=True),
        _false("cancel_requested"),
        _false("preempt_requested"),
        *(
            sa.Column(name, sa.Integer, server_default=sa.text("0"), nullable=False)
            for name in ("max_retries", "failure_count", "lost_count", "preempt_count")
        ),
        *(_json(name, nullable=True) for name in ("checkpoint", "progress", "error", "result")),
        _count("last_seq"),
        _now("created_at"),
        _now("updated_at"),
        *(_time(name) for name in ("dispatched_at", "started_at", "finished_at")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "id"),
        sa.UniqueConstraint("project_id", "idempotency_key"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.ForeignKeyConstraint(["created_by"], ["api_keys.id"]),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"]),
        sa.CheckConstraint(
            "state in ('queued', 'dispatched', 'running', 'succeeded', 'failed', 'cancelled')", name="state"
        ),
        sa.CheckConstraint(
            "(state in ('dispatched', 'running')) = (lease_expires_at is not null)", name="lease_iff_held"
        ),
        sa.CheckConstraint(
            "(state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)", name="finished_iff_terminal"
        ),
        _visible(),
    )
    waiting, held = sa.text("state = 'queued'"), sa.text("state in ('dispatched', 'running')")
    op.create_index("ix_jobs_changed", "jobs", ["updated_at"])
    op.create_index("ix_jobs_listing", "jobs", ["project_id", sa.text("id desc")])
    op.create_index("ix_jobs_waiting", "jobs", ["pool", "priority", "created_at"], postgresql_where=waiting)
    op.create_index("ix_jobs_held", "jobs", ["lease_expires_at"], postgresql_where=held)


def _create_parts_of_jobs() -> None:
    op.create_table(
        "attempts",
        *_of_job(),
        _count("fence", None),
        _uuid("worker_id", nullable=True),
        _now("started_at"),
        _time("ended_at"),
        _text("outcome", nullable=True),
        _json("error", nullable=True),
        _count("told"),
        _false("collected"),
        sa.PrimaryKeyConstraint("job_id", "fence"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"]),
        _job_key(),
    )
    op.create_table(
        "events",
        *_of_job(),
        _count("seq", None),
        _count("fence", None),
        _now("at"),
        _text("type"),
        _json("data"),
        sa.PrimaryKeyConstraint("job_id", "seq"),
        _job_key(),
    )
    op.create_table(
        "metrics",
        *_of_job(),
        _text("name"),
        _count("step", None),
        _count("fence", None),
        sa.Column("value", sa.Float(53), nullable=False),
        _false("hidden"),
        sa.PrimaryKeyConstraint("job_id", "name", "step", "fence"),
        _job_key(),
    )
    op.create_table(
        "artifacts",
        _id(),
        *_of_job(),
        _count("fence", None),
        _text("name"),
        _text("key"),
        _text("sha256"),
        _count("size", None),
        _text("media_type"),
        _now("created_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "name"),
        _job_key(),
    )
    op.create_index("ix_artifacts_content", "artifacts", ["project_id", "sha256"])


def _create_records() -> None:
    _create_record("models", _json("config"), _text("tokenizer_digest"), _json("proof"))
    _create_record(
        "datasets",
        _text("tokenizer_digest"),
        _count("context", None),
        _text("bos"),
        *(_count(name, None) for name in ("train_tokens", "heldout_tokens", "n_documents")),
        _json("source"),
    )
    _create_record(
        "coders",
        sa.Column("layer", sa.Integer, nullable=False),
        _json("config"),
        _uuid("model_id"),
        _uuid("dataset_id"),
        sa.Column("fvu_first", sa.Float(53), nullable=False),
        sa.Column("fvu_last", sa.Float(53), nullable=False),
        _json("metrics", nullable=True),
        _uuid("evaluated_by", nullable=True),
    )
    _create_record("graphs", _uuid("model_id"), _json("summary"))


def _create_record(table: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        table,
        _id(),
        *_of_job(),
        _text("visibility"),
        _text("name"),
        _text("digest"),
        _json("files"),
        _json("lineage"),
        _now("created_at"),
        *columns,
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "id"),
        _visible(),
        _job_key(),
    )
    op.create_index(f"ix_{table}_name", table, ["project_id", "name", sa.text("id desc")])


def _of_job() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return _uuid("project_id"), _uuid("job_id")


def _job_key() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"])


def _visible() -> sa.CheckConstraint:
    return sa.CheckConstraint("visibility in ('project', 'lab')", name="visibility")


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.Uuid, server_default=sa.text("uuidv7()"), nullable=False)


def _uuid(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Uuid, nullable=nullable)


def _text(name: str, *, nullable: bool = False, server_default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=nullable, server_default=server_default)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, JSONB, nullable=nullable)


def _count(name: str, default: str | None = "0") -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, server_default=sa.text(default) if default else None, nullable=False)


def _false(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, server_default=sa.text("false"), nullable=False)


def _time(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
