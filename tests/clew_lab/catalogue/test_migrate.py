"""Migrations on a real Postgres."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import inspect, select, text
from tests.support.rows import REVISIONS, counted, fill
from tests.support.servers import Lab

from clew_lab.catalogue import migrate
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.identity import Shown, actor_of_key, open_session
from clew_lab.catalogue.keys import create_key, digest, new_key
from clew_lab.catalogue.migrations.versions.r0001_first import TABLES as TABLES_OF_THE_FIRST
from clew_lab.catalogue.passwords import right
from clew_lab.catalogue.tables import Audit, Base, Membership, Project, User
from clew_lab.catalogue.tables import Session as BrowserSession
from clew_spec.people import PERMISSIONS, PLATFORM, Permission, Role


def test_the_migrations_make_exactly_the_tables(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate.downgrade(empty_database_url, "base")
    assert migrate.current(empty_database_url) is None
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(empty_database_url)
    engine.dispose()


def test_every_revision_is_walked_up_and_down_with_rows_in_every_table(empty_database_url: str) -> None:
    """Rows of each revision live through every later one, there and back; at the end all is gone, and comes anew."""
    url = empty_database_url
    for number, revision in enumerate(REVISIONS):
        migrate.upgrade(url, revision)
        before = counted(url)
        assert number == 0 or min(before[table] for table in TABLES_OF_THE_FIRST) >= 2 * number
        fill(url)
        full = counted(url)
        if number:
            migrate.downgrade(url, REVISIONS[number - 1])
            kept = counted(url)
            assert {table: full[table] for table in kept} == kept, f"{revision} lost rows on its way down"
            migrate.upgrade(url, revision)
            assert {table: kept[table] for table in kept} == {table: counted(url)[table] for table in kept}
    migrate.downgrade(url, REVISIONS[0])
    assert {table: full[table] for table in TABLES_OF_THE_FIRST} == counted(url)
    migrate.downgrade(url, "base")
    assert counted(url) == {}
    migrate.upgrade(url)
    assert set(counted(url).values()) == {0}


def test_many_starters_migrate_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate.upgrade, [empty_database_url] * 4))
    head = ScriptDirectory.from_config(migrate.config()).get_current_head()
    assert head is not None
    assert migrate.current(empty_database_url) == head


def test_the_first_key_is_made_once(lab: Lab) -> None:
    command = [sys.executable, "-m", "clew_lab.catalogue.bootstrap", "--project", "main", "--key-name", "admin"]
    environ = {**os.environ, **lab.environ}

    def bootstrap(*flags: str) -> str | None:
        done = subprocess.run([*command, *flags], env=environ, capture_output=True, text=True, check=True)
        answer: dict[str, str | None] = json.loads(done.stdout)
        return answer["key"]

    with ThreadPoolExecutor(3) as pool:
        keys = list(pool.map(bootstrap, ["--if-missing"] * 3))
    assert sorted(key is None for key in keys) == [False, True, True]
    again = bootstrap()
    assert again is not None
    assert again not in keys


def test_keys_from_before_people_keep_working_and_go_back_no_stronger(empty_database_url: str) -> None:
    """Down and up again through 0004, with rows in the tables."""
    migrate.upgrade(empty_database_url, "0003")
    engine = make_engine(empty_database_url)
    secret_key, plain = SecretStr("k" * 32), {name: new_key() for name in ("admin", "other")}
    with engine.begin() as connection:
        project = connection.scalar(text("insert into projects (name) values ('main') returning id"))
        for name, key in plain.items():
            made = text(
                "insert into api_keys (project_id, name, hint, digest, admin) "
                "values (:project, :name, '', :digest, :admin) returning id"
            )
            values = {"project": project, "name": name, "digest": digest(secret_key, key), "admin": name == "admin"}
            id = connection.scalar(made, values)
            session = "insert into sessions (key_id, digest, expires_at) values (:id, :name, now() + interval '1 day')"
            connection.execute(text(session), {"id": id, "name": name})
    migrate.upgrade(empty_database_url)
    with session_factory(engine).begin() as records:
        admin, other = (actor_of_key(records, plain[name], secret_key=secret_key) for name in ("admin", "other"))
        assert (admin.user_name, admin.role, admin.permissions) == (
            "admin",
            Role.ADMIN,
            PERMISSIONS[Role.ADMIN] | PLATFORM,
        )
        assert (other.user_id, other.permissions) == (None, PERMISSIONS[Role.MEMBER])
        main = records.get_one(Project, project)
        viewer = User(name="ann", display_name="Ann")
        records.add(viewer)
        records.flush()
        records.add(Membership(project_id=main.id, user_id=viewer.id, role="viewer"))
        user = records.get_one(User, admin.user_id)
        create_key(records, main, "viewer's", user=viewer, secret_key=secret_key)
        create_key(records, main, "scoped", user=user, scopes=[Permission.JOB_READ], secret_key=secret_key)
        create_key(records, main, "service", scopes=[Permission.JOB_READ], secret_key=secret_key)
        user.password = "no hash"
        records.flush()
        open_session(records, Shown(User, user.id, user.password), secret_key=secret_key)
    migrate.downgrade(empty_database_url, "0003")
    with engine.connect() as connection:
        keys = connection.execute(text("select name, admin, revoked_at is null from api_keys order by id")).all()
        assert connection.scalar(text("select count(*) from sessions")) == 2
    assert [tuple(key) for key in keys] == [
        ("admin", True, True),
        ("other", False, True),
        ("viewer's", False, False),
        ("scoped", False, False),
        ("service", False, False),
    ]
    migrate.upgrade(empty_database_url)
    with session_factory(engine).begin() as records:
        assert actor_of_key(records, plain["admin"], secret_key=secret_key).role is Role.ADMIN
    engine.dispose()


def test_the_first_admin_gets_a_password_and_a_way_back_in(lab: Lab) -> None:
    command = [sys.executable, "-m", "clew_lab.catalogue.bootstrap", "--user", "ada", "--if-missing", "--password"]

    def bootstrap(password: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=password, env={**os.environ, **lab.environ}, capture_output=True, text=True
        )

    assert bootstrap("short\n").returncode != 0
    assert json.loads(bootstrap("thread of ariadne\n").stdout)["key"].startswith("clew_")
    engine = make_engine(lab.environ["CLEW_DATABASE_URL"])
    with session_factory(engine).begin() as records:
        ada = records.scalars(select(User)).one()
        assert (ada.name, ada.admin, right(SecretStr("thread of ariadne"), ada.password)) == ("ada", True, True)
        open_session(records, Shown(User, ada.id, str(ada.password)), secret_key=lab.settings.secret_key)
        ada.admin, ada.disabled_at = False, datetime.now(UTC)
    assert json.loads(bootstrap("another thread\n").stdout) == {"key": None}
    with session_factory(engine).begin() as records:
        ada = records.scalars(select(User)).one()
        assert (ada.admin, ada.disabled_at, right(SecretStr("another thread"), ada.password)) == (True, None, True)
        assert records.scalars(select(BrowserSession)).all() == [], "who came in by the old password is out"
        done = [(row.action, row.data) for row in records.scalars(select(Audit).order_by(Audit.id))]
        records.get_one(Membership, (records.scalars(select(Project.id)).one(), ada.id)).role = "viewer"
    admin, password = {"admin": True}, {"new_password": True}
    assert done == [
        ("project.created", {"name": "main"}),
        ("user.created", {"name": "ada"} | admin),
        ("member.added", {"role": "admin"}),
        ("user.changed", password),
        ("key.created", {"name": "admin"}),
        ("user.changed", {"disabled": False} | admin),
        ("user.changed", password),
    ]
    assert json.loads(bootstrap("the third thread\n").stdout) == {"key": None}
    with session_factory(engine).begin() as records:
        more = records.scalars(select(Audit.action).order_by(Audit.id)).all()[len(done) :]
        assert more == ["member.changed", "user.changed"], "what stood already is not told again"
    engine.dispose()
