"""What Alembic runs: the versions, on the connection and in the transaction that ``migrate`` gives."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="keylane_version")
context.run_migrations()
