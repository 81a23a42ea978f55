"""Jobs know what decided their result, so that the same question is answered at once."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before have no digest: they are made again when asked for."""
    op.add_column("jobs", sa.Column("content_digest", sa.Text))
    op.create_index(
        "ix_jobs_content", "jobs", ["project_id", "content_digest"], postgresql_where=sa.text("state = 'succeeded'")
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_content", "jobs")
    op.drop_column("jobs", "content_digest")
