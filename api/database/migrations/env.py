"""What Alembic runs for a migration: it works on the connection that `api.database.engine` has opened and locked."""

from alembic import context

from api.database.tables import Table

# SQLite cannot alter a table, so Alembic copies it.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
