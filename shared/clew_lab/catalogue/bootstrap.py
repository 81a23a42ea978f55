"""The first project and its key: `python -m clew_lab.catalogue.bootstrap --project main --key-name admin --if-missing`.

Prints `{"key": "clew_..."}`; with `--if-missing`, `{"key": null}` where the project has a live key of that name.
"""

import argparse
import json

from pydantic import SecretStr
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.keys import create_key
from clew_lab.catalogue.tables import ApiKey, Project
from clew_lab.settings import settings


def bootstrap(
    session: Session, project: str, key_name: str, *, secret_key: SecretStr, if_missing: bool = True
) -> str | None:
    """Make the project if there is none, and an admin key in it. Returns the key in plain text; the caller commits."""
    session.execute(insert(Project).values(name=project).on_conflict_do_nothing())
    # Its row lock makes a second starter wait, and then find the key.
    row = session.scalars(select(Project).where(Project.name == project).with_for_update()).one()
    if if_missing and _has_live_key(session, row, key_name):
        return None
    return create_key(session, row, key_name, admin=True, secret_key=secret_key)[1]


def _has_live_key(session: Session, project: Project, name: str) -> bool:
    live = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    mine = select(ApiKey.id).where(ApiKey.project_id == project.id, ApiKey.name == name)
    return session.scalar(mine.where(ApiKey.revoked_at.is_(None), live).limit(1)) is not None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clew_lab.catalogue.bootstrap", description=__doc__)
    parser.add_argument("--project", default="main")
    parser.add_argument("--key-name", default="admin")
    parser.add_argument("--if-missing", action="store_true", help="make no second key of that name")
    arguments = parser.parse_args()
    engine = make_engine(settings().database_url.get_secret_value())
    with session_factory(engine).begin() as session:
        key = bootstrap(
            session,
            arguments.project,
            arguments.key_name,
            secret_key=settings().secret_key,
            if_missing=arguments.if_missing,
        )
    engine.dispose()
    print(json.dumps({"key": key}))


if __name__ == "__main__":
    main()
