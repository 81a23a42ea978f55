"""Schema and first key of a lab in one interpreter: `python -m clew_local.prepare NAME [NAME ...]`.

Brings the database to the schema of this version, gives its roles what they need, makes the project, and in it an
admin key under the first NAME that has no live one. Prints `{"key": "clew_..."}`, or `{"key": null}` where all of them
have.
"""

import argparse
import json

from clew_lab.catalogue import migrate, roles
from clew_lab.catalogue.bootstrap import bootstrap
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.settings import settings

PROJECT = "main"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clew_local.prepare", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME")
    names = parser.parse_args().names
    url = settings().database_url.get_secret_value()
    migrate.upgrade(url)
    roles.grant(url, roles.passwords_of(settings()))
    engine = make_engine(url)
    with session_factory(engine).begin() as session:
        keys = (bootstrap(session, PROJECT, name, secret_key=settings().secret_key) for name in names)
        key = next((key for key in keys if key is not None), None)
    engine.dispose()
    print(json.dumps({"key": key}))


if __name__ == "__main__":
    main()
