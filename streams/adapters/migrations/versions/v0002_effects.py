"""The effect ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    """Make the table ``effects``: one row per effect that must happen once."""
    op.execute(sa.schema.CreateSequence(sa.Sequence("effect_token")))
    op.create_table(
        "effects",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("replays", sa.Integer, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("unsettled_until", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("result", sa.Text),
    )
    op.create_index("effects_started", "effects", ["started_at"])


def downgrade() -> None:
    """Drop the ledger: what it remembers is lost, and effects may repeat."""
    op.drop_table("effects")
    op.execute(sa.schema.DropSequence(sa.Sequence("effect_token")))
