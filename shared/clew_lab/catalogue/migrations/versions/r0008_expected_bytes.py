"""Jobs say how much they will publish, so that a project's quota holds for what is yet to come."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("expected_bytes", sa.BigInteger, server_default=sa.text("0"), nullable=False))
    adding = sa.text("finished_at is null and expected_bytes > 0")
    op.create_index("ix_jobs_expected", "jobs", ["project_id", "expected_bytes"], postgresql_where=adding)


def downgrade() -> None:
    op.drop_index("ix_jobs_expected", "jobs")
    op.drop_column("jobs", "expected_bytes")
