"""Coders that were not trained here: no FVU of their training, and perhaps no dataset."""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UNKNOWN = UUID(int=0)
CODERS = sa.table("coders", sa.column("dataset_id", sa.Uuid), sa.column("fvu_first"), sa.column("fvu_last"))


def upgrade() -> None:
    op.alter_column("coders", "dataset_id", nullable=True)
    op.alter_column("coders", "fvu_first", nullable=True)
    op.alter_column("coders", "fvu_last", nullable=True)


def downgrade() -> None:
    """What is not known becomes what the older schema has for it: an id of nothing, and not a number."""
    op.execute(sa.update(CODERS).where(CODERS.c.dataset_id.is_(None)).values(dataset_id=UNKNOWN))
    for column in ("fvu_first", "fvu_last"):
        op.execute(sa.update(CODERS).where(CODERS.c[column].is_(None)).values({column: float("nan")}))
        op.alter_column("coders", column, nullable=False)
    op.alter_column("coders", "dataset_id", nullable=False)
