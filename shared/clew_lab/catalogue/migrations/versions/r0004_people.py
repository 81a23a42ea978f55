"""People, their roles in projects, and keys that belong to them. Keys from before keep working."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MEMBER = [
    *("lab:read", "project:read", "member:read", "record:read", "job:read", "key:create"),
    *("job:submit", "job:cancel"),
]
"""What keys without a person could do so far, in today's words; as it was when this was written."""


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("admin", sa.Boolean, server_default=sa.text("false"), nullable=False),
        _now("created_at"),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "memberships",
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        _now("created_at"),
        sa.PrimaryKeyConstraint("project_id", "user_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.CheckConstraint("role in ('viewer', 'member', 'maintainer', 'admin')", name="role"),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])
    op.create_table(
        "sign_in_attempts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        _now("at"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sign_in_attempts_at", "sign_in_attempts", ["at"])
    op.add_column("api_keys", sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id")))
    op.add_column("api_keys", sa.Column("scopes", JSONB(none_as_null=True)))
    op.alter_column("sessions", "key_id", nullable=True)
    op.add_column("sessions", sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id")))
    op.add_column("sessions", sa.Column("project_id", sa.Uuid, sa.ForeignKey("projects.id")))
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_check_constraint("opened_by_one", "sessions", "(key_id is null) <> (user_id is null)")
    op.add_column("jobs", sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id")))
    op.add_column("audit", sa.Column("user_id", sa.Uuid))
    op.create_index("ix_audit_project", "audit", ["project_id", sa.text("id desc")])
    _give_keys_to_people()
    op.drop_column("api_keys", "admin")


def downgrade() -> None:
    """Keys that may do less than all, and those of people who may not come in, would be able to do all: they end."""
    op.add_column("api_keys", sa.Column("admin", sa.Boolean, server_default=sa.text("false"), nullable=False))
    op.execute(
        "update api_keys set admin = users.admin from users where users.id = api_keys.user_id and scopes is null"
    )
    op.execute(
        sa.text(
            "update api_keys k set revoked_at = now() where revoked_at is null and ("
            "  (k.user_id is null and not coalesce(k.scopes, '[]') @> cast(:member as jsonb))"
            "  or (k.user_id is not null and k.scopes is not null)"
            "  or exists (select from users u where u.id = k.user_id and u.disabled_at is not null)"
            "  or (k.user_id is not null and not exists (select from memberships m where m.user_id = k.user_id"
            "      and m.project_id = k.project_id and m.role <> 'viewer')))"
        ).bindparams(sa.bindparam("member", MEMBER, JSONB))
    )
    op.execute("delete from sessions where key_id is null")
    op.drop_index("ix_audit_project", "audit")
    op.drop_column("audit", "user_id")
    op.drop_column("jobs", "user_id")
    op.drop_constraint("opened_by_one", "sessions", type_="check")
    op.drop_index("ix_sessions_user_id", "sessions")
    op.drop_column("sessions", "project_id")
    op.drop_column("sessions", "user_id")
    op.alter_column("sessions", "key_id", nullable=False)
    op.drop_column("api_keys", "scopes")
    op.drop_column("api_keys", "user_id")
    for table in ("sign_in_attempts", "memberships", "users"):
        op.drop_table(table)


def _give_keys_to_people() -> None:
    """Admin keys become those of one person, `admin`, who is an admin of the lab and of the keys' projects."""
    op.execute(
        "insert into users (name, display_name, admin) select 'admin', 'admin', true "
        "where exists (select from api_keys where admin)"
    )
    op.execute(
        "insert into memberships (project_id, user_id, role) "
        "select distinct k.project_id, u.id, 'admin' from api_keys k cross join users u where k.admin"
    )
    op.execute("update api_keys set user_id = (select id from users) where admin")
    op.execute("update jobs set user_id = k.user_id from api_keys k where k.id = jobs.created_by")
    op.execute(
        sa.text("update api_keys set scopes = cast(:member as jsonb) where not admin").bindparams(
            sa.bindparam("member", MEMBER, JSONB)
        )
    )


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
