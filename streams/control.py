"""Orders to cancel jobs, as the topic ``job-control`` keeps them: the newest per job.

Invariant: an order names the life of the job it is meant for: a replay from the dead letters is another one.
"""

from __future__ import annotations

import json
from typing import NamedTuple

TOPIC = "job-control"
PARTITION = 0
KEPT = 28 * 86_400.0  # seconds: twice what a job may wait in the log; afterwards an order is forgotten


class Order(NamedTuple):
    """Cancel this job; ``at`` in milliseconds since the epoch."""

    tenant: str
    job_id: str
    replays: int
    at: int
    by: str

    @property
    def name(self) -> str:
        """Of the job, unlike any other tenant's; the record key."""
        return name_of(self.tenant, self.job_id)

    @property
    def value(self) -> bytes:
        """Of the record that stores it."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()


def name_of(tenant: str, job_id: str) -> str:
    """Names a job: clients choose ids, so another tenant's job of the same id is another one."""
    return f"{tenant}/{job_id}"


def order_of(value: bytes | None) -> Order | None:
    """The order that a record's value holds; None for a stranger's."""
    try:
        found = json.loads(value or b"null")
        return Order(
            str(found["tenant"]), str(found["job_id"]), int(found["replays"]), int(found["at"]), str(found["by"])
        )
    except (KeyError, TypeError, ValueError):
        return None
