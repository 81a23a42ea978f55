"""The first project, person and key: `python -m clew_lab.catalogue.bootstrap --project main --user admin --if-missing`.

The person is an admin of the lab and of the project. Prints `{"key": "clew_..."}`; with `--if-missing`, `{"key": null}`
where the project has a live key of that name. With `--password`, the person's password is read from standard input.
It is also the way back in: whoever may run it has the database.
"""

import argparse
import json
import sys

from pydantic import SecretStr, TypeAdapter
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit, identity
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.keys import create_key, live
from clew_lab.catalogue.passwords import hashed
from clew_lab.catalogue.tables import ApiKey, Membership, Project, User
from clew_lab.settings import settings
from clew_spec.base import Name
from clew_spec.people import Password, Role


def bootstrap(
    session: Session,
    project: str,
    key_name: str,
    *,
    secret_key: SecretStr,
    user: str = "admin",
    password: SecretStr | None = None,
    if_missing: bool = True,
) -> str | None:
    """Make what there is not yet of project and person, and a key of theirs in it. A new password ends the sessions
    that another opened.

    Returns the key in plain text; the caller commits.
    """
    made = insert(Project).values(name=project).on_conflict_do_nothing().returning(Project.id)
    if (id := session.scalar(made)) is not None:
        audit.record(session, None, "project.created", id, name=project)
    # Its row lock makes a second starter wait, and then find the key.
    row = session.scalars(select(Project).where(Project.name == project).with_for_update()).one()
    if password is not None:
        admin = _admin(session, row, user)
        admin.password = hashed(password)
        session.flush()
        identity.close_sessions(session, admin.id)
        audit.record(session, None, "user.changed", admin.id, new_password=True)
    if if_missing and _has_live_key(session, row, key_name):
        return None
    return create_key(session, row, key_name, user=_admin(session, row, user), secret_key=secret_key)[1]


def _admin(session: Session, project: Project, name: str) -> User:
    """The person, with all that an admin may, whatever was taken from them before."""
    made = insert(User).values(name=name, display_name=name, admin=True).on_conflict_do_nothing().returning(User.id)
    new = session.scalar(made) is not None
    user = session.scalars(select(User).where(User.name == name).with_for_update()).one()
    if new:
        audit.record(session, None, "user.created", user.id, name=name, admin=True)
    elif not user.admin or user.disabled_at is not None:
        user.admin, user.disabled_at = True, None
        audit.record(session, None, "user.changed", user.id, admin=True, disabled=False)
    place, role = {"project_id": project.id, "user_id": user.id}, Role.ADMIN.value
    membership = session.get(Membership, place, with_for_update=True)
    if membership is None:
        session.add(Membership(**place, role=role))
        audit.record(session, None, "member.added", user.id, project_id=project.id, role=role)
    elif membership.role != role:
        membership.role = role
        audit.record(session, None, "member.changed", user.id, project_id=project.id, role=role)
    session.flush()
    return user


def _has_live_key(session: Session, project: Project, name: str) -> bool:
    mine = select(ApiKey.id).where(ApiKey.project_id == project.id, ApiKey.name == name)
    return session.scalar(mine.outerjoin(User, User.id == ApiKey.user_id).where(*live()).limit(1)) is not None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clew_lab.catalogue.bootstrap", description=__doc__)
    parser.add_argument("--project", type=TypeAdapter(Name).validate_python, default="main")
    parser.add_argument("--user", type=TypeAdapter(Name).validate_python, default="admin")
    parser.add_argument("--key-name", default="admin")
    parser.add_argument("--password", action="store_true", help="read the person's password from standard input")
    parser.add_argument("--if-missing", action="store_true", help="make no second key of that name")
    arguments = parser.parse_args()
    password = None
    if arguments.password:
        password = TypeAdapter[SecretStr](Password).validate_python(sys.stdin.readline().rstrip("\n"))
    engine = make_engine(settings().database_url.get_secret_value())
    with session_factory(engine).begin() as session:
        key = bootstrap(
            session,
            arguments.project,
            arguments.key_name,
            secret_key=settings().secret_key,
            user=arguments.user,
            password=password,
            if_missing=arguments.if_missing,
        )
    engine.dispose()
    print(json.dumps({"key": key}))


if __name__ == "__main__":
    main()
