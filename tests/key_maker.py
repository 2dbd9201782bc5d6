"""API keys straight in the database, for tests that bring master keys of their own to a database they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.adapters import sql
from streams.adapters.keys import API_KEYS
from streams.app.access import vault_of
from streams.keys import Issued, Order, issue

if TYPE_CHECKING:
    from streams.settings import Settings


async def stored_key(settings: Settings, *scopes: str, tenant: str | None = "steppe") -> Issued:
    """A new key; it is not in the audit trail, whose chain is made with one master key."""
    vault = vault_of(settings)
    assert vault is not None
    assert settings.database_url is not None
    issued = issue(Order(name="a test's", scopes=frozenset(scopes), tenant=tenant), vault, by="test", now=0)
    values = {column.name: getattr(issued.key, column.name) for column in API_KEYS.c}
    engine = sql.connect(settings.database_url.get_secret_value())
    await sql.migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(API_KEYS.insert().values(values | {"scopes": sorted(issued.key.scopes)}))
    await engine.dispose()
    return issued
