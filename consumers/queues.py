"""The job queues of this deployment."""

from __future__ import annotations

from streams.job import Queue

QUEUES = (Queue(name="emails", tiers=(2, 4, 8, 16), concurrency=10),)
