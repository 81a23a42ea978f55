"""What each role of Postgres may do, and what it is refused."""

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import inspect
from tests.support.servers import ROLE_PASSWORD, under_role

from clew_lab.catalogue import migrate, roles
from clew_lab.catalogue.engine import libpq_url, make_engine
from clew_lab.catalogue.roles import GRANTS, ROLES, Role
from clew_lab.catalogue.tables import Base

WAYS = {
    "select": "select 1 from {} limit 0",
    "insert": "insert into {} default values",
    "delete": "delete from {} where false",
}
CHANGE = "update {} set {} = default where false"


def test_every_table_has_its_row_of_grants() -> None:
    assert set(GRANTS) == set(Base.metadata.tables), "say in clew_lab.catalogue.roles who may do what there"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_is_written_and_nothing_else(database_url: str, role: Role) -> None:
    """Every way to touch every table and column is tried, whatever the grants say of it."""
    with psycopg.connect(libpq_url(under_role(database_url, role)), autocommit=True) as connection:
        for table, of_table in GRANTS.items():
            given = of_table.get(role, "").split(", ")
            for way, words in WAYS.items():
                statement = sql.SQL(words).format(sql.Identifier(table))
                assert _allows(connection, statement) == (way in given), (role, way, table)
            for column in Base.metadata.tables[table].columns:
                statement = sql.SQL(CHANGE).format(sql.Identifier(table), sql.Identifier(column.name))
                allowed = bool({"update", f"update ({column.name})"} & set(given))
                assert _allows(connection, statement) == allowed, (role, table, column.name)
            assert not _allows(connection, sql.SQL("truncate {}").format(sql.Identifier(table)))
        for words in ("create table mine (x int)", "create role another", "drop table audit", "set role clew"):
            assert not _allows(connection, sql.SQL(words)), words


def test_the_walls_that_matter() -> None:
    assert "worker" not in GRANTS["api_keys"].keys() | GRANTS["sessions"].keys() | GRANTS["audit"].keys()
    assert "scheduler" not in GRANTS["api_keys"].keys() | GRANTS["sessions"].keys()
    for given in GRANTS["audit"].values():
        assert not {"update", "delete"} & set(given.split(", ")), "what was done stays written"


def test_granting_again_takes_what_is_too_much_and_changes_passwords(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("grant select on api_keys to clew_worker")
    engine.dispose()
    worker = under_role(database_url, "worker")
    keys = sql.SQL("select 1 from api_keys")
    with psycopg.connect(libpq_url(worker), autocommit=True) as connection:
        assert _allows(connection, keys)
        try:
            roles.grant(database_url, {"worker": "another-password"})
            assert not _allows(connection, keys)
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(libpq_url(worker))
        finally:
            roles.grant(database_url, dict.fromkeys(ROLES, ROLE_PASSWORD))
    psycopg.connect(libpq_url(worker)).close()


def test_an_older_schema_is_granted_as_far_as_it_goes(empty_database_url: str) -> None:
    roles.grant(empty_database_url, {})
    roles.grant(empty_database_url, dict.fromkeys(ROLES, ROLE_PASSWORD))
    migrate.upgrade(empty_database_url, "0001")
    roles.grant(empty_database_url, dict.fromkeys(ROLES, ROLE_PASSWORD))
    engine = make_engine(under_role(empty_database_url, "scheduler"))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from jobs").scalar_one() == 0
        assert "jobs" in inspect(connection).get_table_names()
    engine.dispose()


def _allows(connection: psycopg.Connection, statement: sql.SQL | sql.Composed) -> bool:
    """Rows that break a rule of the table were allowed all the same."""
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return True
    return True
