"""The history of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table ``jobs``: one row per job, times in milliseconds since the epoch."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("entity", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("replays", sa.Integer, nullable=False),
        sa.Column("payload", JSONB),
        sa.Column("result", JSONB),
        sa.Column("error", sa.Text),
        sa.Column("stack", sa.Text),
        sa.Column("worker", sa.Text),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
    )
    op.create_index("jobs_status", "jobs", ["status", "updated_at"])
    op.create_index("jobs_type_created", "jobs", ["type", "created_at"])
    op.create_index("jobs_tenant_created", "jobs", ["tenant", "created_at"])
    op.create_index("jobs_entity_type_created", "jobs", ["entity", "type", "created_at"])


def downgrade() -> None:
    """Drop the history."""
    op.drop_table("jobs")
