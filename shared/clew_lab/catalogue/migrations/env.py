"""Alembic's entry. The connection is given by `clew_lab.catalogue.migrate`, which holds the lock."""

from alembic import context

from clew_lab.catalogue.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
