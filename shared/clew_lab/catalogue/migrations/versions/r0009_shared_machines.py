"""Workers say which machine and GPU they are on and count bells left unanswered; what is looked up often is indexed."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("machine", "gpu_uuid", "unanswered", "rests_until")
INDEXES: dict[str, tuple[str, list[Any], str | None]] = {
    "ix_attempts_left": ("attempts", ["job_id"], "not collected"),
    "ix_attempts_ended": ("attempts", ["outcome"], "outcome is not null"),
    "ix_jobs_shapes": (
        "jobs",
        ["pool", "priority", "needs_gpus", "needs_cpus", "needs_gpu_memory", "needs_ram", "needs_ram_alone"],
        "state = 'queued'",
    ),
    "ix_jobs_upload": ("jobs", [sa.text("(inputs ->> 'upload')")], "inputs ->> 'upload' is not null"),
    "ix_jobs_graph": ("jobs", [sa.text("(inputs ->> 'graph')")], "inputs ->> 'graph' is not null"),
    "ix_sessions_key_id": ("sessions", ["key_id"], None),
    "ix_sessions_expires_at": ("sessions", ["expires_at"], None),
    "ix_api_keys_project_id": ("api_keys", ["project_id"], None),
}


def upgrade() -> None:
    op.add_column("workers", sa.Column("machine", sa.Text))
    op.add_column("workers", sa.Column("gpu_uuid", sa.Text))
    op.add_column("workers", sa.Column("unanswered", sa.Integer, server_default=sa.text("0"), nullable=False))
    op.add_column("workers", sa.Column("rests_until", sa.DateTime(timezone=True)))
    for name, (table, columns, where) in INDEXES.items():
        op.create_index(name, table, columns, postgresql_where=None if where is None else sa.text(where))


def downgrade() -> None:
    for name, (table, _, _) in INDEXES.items():
        op.drop_index(name, table)
    for column in COLUMNS:
        op.drop_column("workers", column)
