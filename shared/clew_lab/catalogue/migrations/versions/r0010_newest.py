"""Lists of jobs find the newest by indexes in an order of their own, those of a person's or a key's own among them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

AGE = sa.text("uuid_send(id)")
SHOWN = sa.text("visibility = 'lab'")


def upgrade() -> None:
    _drop()
    op.create_index("ix_jobs_newest", "jobs", ["project_id", "state", "kind", AGE], postgresql_include=["id"])
    op.create_index("ix_jobs_shown", "jobs", ["state", "kind", AGE], postgresql_where=SHOWN, postgresql_include=["id"])
    op.create_index(
        "ix_jobs_by",
        "jobs",
        ["project_id", "user_id", AGE],
        postgresql_where=sa.text("user_id is not null"),
        postgresql_include=["id"],
    )
    op.create_index(
        "ix_jobs_by_key",
        "jobs",
        ["project_id", "created_by", AGE],
        postgresql_where=sa.text("user_id is null"),
        postgresql_include=["id"],
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_by_key", "jobs")
    op.drop_index("ix_jobs_by", "jobs")
    _drop()
    op.create_index("ix_jobs_newest", "jobs", ["project_id", "state", "kind", "id"])
    op.create_index("ix_jobs_shown", "jobs", ["state", "kind", "id"], postgresql_where=SHOWN)


def _drop() -> None:
    op.drop_index("ix_jobs_newest", "jobs")
    op.drop_index("ix_jobs_shown", "jobs")
