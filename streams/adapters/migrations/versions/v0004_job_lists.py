"""Lists of jobs, the steps of their attempts, and a row of its own for each tenant's job of an id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

_FIELDS = ("tenant", "type", "queue", "status", "key")
_BEFORE = {
    "jobs_status": ["status", "updated_at"],
    "jobs_type_created": ["type", "created_at"],
    "jobs_tenant_created": ["tenant", "created_at"],
    "jobs_entity_type_created": ["entity", "type", "created_at"],
}


def upgrade() -> None:
    """Keep the steps of each job, and an index for each thing a list may be restricted to."""
    op.add_column("jobs", sa.Column("due_at", sa.BigInteger))
    op.add_column("jobs", sa.Column("steps", JSONB, nullable=False, server_default="{}"))
    op.drop_constraint("jobs_pkey", "jobs")
    op.create_primary_key("jobs_pkey", "jobs", ["job_id", "tenant"])
    for name in _BEFORE:
        op.drop_index(name, "jobs")
    op.create_index("jobs_created", "jobs", ["created_at", "job_id"])
    for field in _FIELDS:
        op.create_index(f"jobs_{field}_created", "jobs", [field, "created_at", "job_id"])


def downgrade() -> None:
    """Drop what lists need; fails where several tenants have a job of one id."""
    for name in ("jobs_created", *(f"jobs_{field}_created" for field in _FIELDS)):
        op.drop_index(name, "jobs")
    for name, columns in _BEFORE.items():
        op.create_index(name, "jobs", columns)
    op.drop_constraint("jobs_pkey", "jobs")
    op.create_primary_key("jobs_pkey", "jobs", ["job_id"])
    op.drop_column("jobs", "steps")
    op.drop_column("jobs", "due_at")
