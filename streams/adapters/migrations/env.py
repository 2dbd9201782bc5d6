"""What Alembic runs: the versions, on the connection and in the transaction that ``migrate`` gives."""

from __future__ import annotations

from alembic import context

from streams.adapters.sql import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
