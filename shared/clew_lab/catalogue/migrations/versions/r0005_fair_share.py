"""Jobs say what a worker must have, projects have quotas, and what each used is kept as one number."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNT, BYTES = sa.Integer, sa.BigInteger
COLUMNS = {
    "projects": {"max_in_flight": COUNT, "max_stored_bytes": BYTES},
    "workers": {"ram_bytes": BYTES, "cpus": COUNT, "gpus": COUNT},
    "jobs": {
        **{"needs_gpus": COUNT, "needs_cpus": COUNT},
        **{"needs_gpu_memory": BYTES, "needs_ram": BYTES, "needs_ram_alone": BYTES},
    },
}
HALF_LIFE_S = 7 * 86400


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for name, type_ in columns.items():
            unset = table == "projects"
            op.add_column(table, sa.Column(name, type_, server_default=None if unset else sa.text("0"), nullable=unset))
    op.add_column("workers", sa.Column("reserved_for", sa.Uuid))
    op.create_table(
        "usage",
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("project_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
    )
    op.create_table(
        "standings",
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True)),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("data", JSONB),
        sa.PrimaryKeyConstraint("job_id"),
        prefixes=["UNLOGGED"],
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "queues",
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("waiting", JSONB, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pool"),
    )
    waiting, succeeded = sa.text("state = 'queued'"), sa.text("state = 'succeeded'")
    op.drop_index("ix_jobs_waiting", "jobs")
    order = [*map(sa.text, ("pool", "project_id", "priority desc", "created_at", "id"))]
    op.create_index("ix_jobs_waiting", "jobs", order, postgresql_where=waiting)
    op.create_index("ix_jobs_finished", "jobs", ["kind", "finished_at"], postgresql_where=succeeded)
    op.create_index("ix_jobs_newest", "jobs", ["project_id", "state", "kind", "id"])
    shown = sa.text("visibility = 'lab'")
    op.create_index("ix_jobs_shown", "jobs", ["state", "kind", "id"], postgresql_where=shown)
    op.create_index("ix_artifacts_stored", "artifacts", ["project_id", "size"])
    op.execute("update workers set gpus = 1 where device like 'cuda%'")
    op.execute(
        f"""
        insert into usage (project_id, seconds, at)
        select project_id,
               sum({HALF_LIFE_S} / ln(2) * (1 - 0.5 ^ (least(seconds, 8 * {HALF_LIFE_S}) / {HALF_LIFE_S}))
                   * 0.5 ^ (least(ago, 100 * {HALF_LIFE_S}) / {HALF_LIFE_S})),
               now()
        from (
            select project_id, extract(epoch from ended_at - started_at)::float as seconds,
                   extract(epoch from now() - ended_at)::float as ago
            from attempts where ended_at is not null
        ) spans
        group by project_id
        """  # noqa: S608  # numbers of our own
    )


def downgrade() -> None:
    op.drop_index("ix_artifacts_stored", "artifacts")
    for index in ("ix_jobs_shown", "ix_jobs_newest", "ix_jobs_finished"):
        op.drop_index(index, "jobs")
    op.drop_index("ix_jobs_waiting", "jobs")
    waiting = sa.text("state = 'queued'")
    op.create_index("ix_jobs_waiting", "jobs", ["pool", "priority", "created_at"], postgresql_where=waiting)
    for table in ("queues", "standings", "usage"):
        op.drop_table(table)
    op.drop_column("workers", "reserved_for")
    for table, columns in COLUMNS.items():
        for name in columns:
            op.drop_column(table, name)
