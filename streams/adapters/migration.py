"""Brings a database to the newest version, with Alembic, which only this module loads.

Invariant: ``HEAD`` of ``streams.adapters.sql`` is the newest version (a test compares them).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config

if TYPE_CHECKING:
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


def config() -> Config:
    """What Alembic is told."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return made


def upgrade(connection: Connection) -> None:
    """Migrate, on the connection and in its transaction."""
    made = config()
    made.attributes["connection"] = connection
    command.upgrade(made, "head")
