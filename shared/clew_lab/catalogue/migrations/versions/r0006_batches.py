"""Jobs that belong together: batches, what waits for what, and which job tries another again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATES = "'dispatched', 'running', 'succeeded', 'failed', 'cancelled'"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid, server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_digest", sa.Text, nullable=False),
        sa.Column("created_by", sa.Uuid),
        sa.Column("user_id", sa.Uuid),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "id"),
        sa.UniqueConstraint("project_id", "idempotency_key"),
        sa.CheckConstraint("kind in ('sweep', 'pipeline')", name="kind"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.ForeignKeyConstraint(["created_by"], ["api_keys.id"]),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
    )
    op.add_column("jobs", sa.Column("requests", JSONB, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("jobs", sa.Column("batch_id", sa.Uuid))
    op.add_column("jobs", sa.Column("step", sa.Text))
    op.add_column("jobs", sa.Column("retry_of", sa.Uuid))
    op.create_foreign_key(
        "fk_jobs_project_id_batch_id", "jobs", "batches", ["project_id", "batch_id"], ["project_id", "id"]
    )
    op.create_foreign_key("fk_jobs_retry_of", "jobs", "jobs", ["retry_of"], ["id"])
    op.create_index("ix_jobs_batch", "jobs", ["batch_id", "id"], postgresql_where=sa.text("batch_id is not null"))
    op.create_index("ix_jobs_blocked", "jobs", ["id"], postgresql_where=sa.text("state = 'blocked'"))
    op.create_index("ix_jobs_retried", "jobs", ["retry_of"], postgresql_where=sa.text("retry_of is not null"))
    _states(f"'queued', 'blocked', {STATES}")
    op.create_table(
        "dependencies",
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("on_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "on_id"),
        sa.ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"]),
        sa.ForeignKeyConstraint(["project_id", "on_id"], ["jobs.project_id", "jobs.id"]),
    )
    op.create_index("ix_dependencies_on", "dependencies", ["on_id"])


def downgrade() -> None:
    # What waits for another job could never begin.
    op.execute("""
        with ended as (
            update jobs set state = 'cancelled', finished_at = now(), updated_at = now(), last_seq = last_seq + 1
            where state = 'blocked' returning project_id, id, last_seq, fence
        )
        insert into events (project_id, job_id, seq, fence, type, data)
        select project_id, id, last_seq, fence, 'state', '{"state": "cancelled", "from": "queued"}' from ended
    """)
    for field in ("state", "from"):
        op.execute(f"""
            update events set data = jsonb_set(data, '{{{field}}}', '"queued"')
            where type = 'state' and data ->> '{field}' = 'blocked'
        """)  # noqa: S608  # words of our own
    op.drop_table("dependencies")
    _states(f"'queued', {STATES}")
    for index in ("ix_jobs_retried", "ix_jobs_blocked", "ix_jobs_batch"):
        op.drop_index(index, "jobs")
    for column in ("retry_of", "step", "batch_id", "requests"):
        op.drop_column("jobs", column)
    op.drop_table("batches")


def _states(known: str) -> None:
    op.drop_constraint("state", "jobs", type_="check")
    op.create_check_constraint("state", "jobs", f"state in ({known})")
