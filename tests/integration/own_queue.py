"""The deployment's own jobs in a queue that no other test uses; ``KEYLANE_CATALOGUE`` names it.

Invariant: the queue is called as the data folder is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from consumers import discover as discover_all
from streams.job import Catalogue

if TYPE_CHECKING:
    from streams.settings import Settings


def discover(settings: Settings) -> Catalogue:
    """The sign-in jobs in the queue of these settings."""
    found, name = discover_all(settings), settings.data_dir.name
    (queue,) = found.queues
    jobs = tuple(replace(job, queue=name) for job in found.jobs if job.queue == queue.name)
    return Catalogue(queues=(replace(queue, name=name),), jobs=jobs, options=found.options)


def of(settings: Settings, name: str) -> Settings:
    """Settings under which the queue is called so."""
    return settings.model_copy(update={"catalogue": f"{__name__}:discover", "data_dir": settings.data_dir / name})
