"""API keys in PostgreSQL: the ``KeyStore`` port.

Invariant: a key is added or revoked in one transaction with the audit record of the act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Column, Index, LargeBinary, Table, Text, select, update

from streams.adapters.sql import METADATA, away
from streams.keys import ApiKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from streams.adapters.audit import SqlAudit
    from streams.audit import Act

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("prefix", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("tenant", Text),
    Column("secret_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("signing", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    CheckConstraint("tenant IS NOT NULL OR 'admin' = ANY (scopes)", name="api_keys_tenant"),
    Index("api_keys_tenant_created", "tenant", "created_at"),
)


class SqlKeys:
    """The ``KeyStore`` port."""

    def __init__(self, engine: AsyncEngine, audit: SqlAudit) -> None:
        self._engine = engine
        self._audit = audit

    async def find(self, prefixes: Sequence[str]) -> dict[str, ApiKey]:
        """See ``KeyStore.find``."""
        return {key.prefix: key for key in await self._read(API_KEYS.c.prefix.in_(prefixes))}

    async def all(self, tenant: str | None) -> list[ApiKey]:
        """See ``KeyStore.all``."""
        return await self._read(*([] if tenant is None else [API_KEYS.c.tenant == tenant]))

    async def add(self, key: ApiKey, act: Act) -> None:
        """See ``KeyStore.add``."""
        values = {column.name: getattr(key, column.name) for column in API_KEYS.c}
        with away():
            async with self._engine.begin() as connection:
                await self._audit.append(connection, act)
                await connection.execute(API_KEYS.insert().values(values | {"scopes": sorted(key.scopes)}))

    async def revoke(self, key: ApiKey, act: Act) -> ApiKey:
        """See ``KeyStore.revoke``."""
        valid = (API_KEYS.c.prefix == key.prefix) & API_KEYS.c.revoked_at.is_(None)
        with away():
            async with self._engine.begin() as connection:
                changed = await connection.execute(update(API_KEYS).where(valid).values(revoked_at=key.revoked_at))
                if changed.rowcount:
                    await self._audit.append(connection, act)
                    return key
        return (await self.find([key.prefix]))[key.prefix]

    async def _read(self, *conditions: Any) -> list[ApiKey]:
        query = select(API_KEYS).where(*conditions).order_by(API_KEYS.c.created_at.desc(), API_KEYS.c.prefix)
        with away():
            async with self._engine.connect() as connection:
                found = (await connection.execute(query)).mappings().all()
        return [ApiKey(**{**row, "scopes": frozenset(row["scopes"])}) for row in found]
