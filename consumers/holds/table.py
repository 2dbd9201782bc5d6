"""The table ``holds``: one row per reservation that was held, and how far its ending has come.

States: ``held`` -> ``expiring`` (its expiry is about to be published) -> ``expired``, or ``settled`` from either of the
first two when a confirmation or cancellation is read. Invariant: nothing leaves ``expired`` or ``settled``.
"""

from __future__ import annotations

from sqlalchemy import TIMESTAMP, Column, Index, MetaData, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

METADATA = MetaData()

HOLDS = Table(
    "holds",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("reservation_id", Text, primary_key=True),
    Column("entity", Text, nullable=False),  # of the record key, so that the expiry follows the hold in its lane
    Column("state", Text, nullable=False),
    Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
    Column("reservation", JSONB),  # the fields of the event; none where the end came first
    Column("captured", JSONB),  # partition -> end offset, from before the expiry was published
    Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.now()),
    Index("holds_due", "expires_at", postgresql_where=text("state = 'held'")),
    Index("holds_expiring", "tenant", postgresql_where=text("state = 'expiring'")),
    Index("holds_over", "updated_at", postgresql_where=text("state in ('expired', 'settled')")),
)
