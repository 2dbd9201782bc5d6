"""API keys, and the audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables ``api_keys`` and ``audit``; times in milliseconds since the epoch."""
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("tenant", sa.Text),
        sa.Column("secret_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("signing", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.CheckConstraint("tenant IS NOT NULL OR 'admin' = ANY (scopes)", name="api_keys_tenant"),
    )
    op.create_index("api_keys_tenant_created", "api_keys", ["tenant", "created_at"])
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
    )
    op.create_index("audit_unpublished", "audit", ["sequence"], postgresql_where=sa.text("NOT published"))


def downgrade() -> None:
    """Drop the keys and the trail."""
    op.drop_table("audit")
    op.drop_table("api_keys")
