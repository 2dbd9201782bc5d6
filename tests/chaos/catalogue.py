"""What the workers of the chaos runs declare: one queue of plain and of ``once`` jobs; ``KEYLANE_CATALOGUE`` names it.

Invariant: everything a run chooses stands in ``chaos.json`` in its data folder (see ``Config``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.chaos_pay.model import CONTRACT as PAY
from schemas.chaos_write.model import CONTRACT as WRITE

from streams.core.retry import RetryPolicy
from streams.job import Catalogue, Job, Once, Queue
from tests.chaos.client import LedgerClient
from tests.chaos.config import Config
from tests.chaos.handlers import ATTEMPTS, Noting

if TYPE_CHECKING:
    from streams.settings import Settings

TIMEOUT = 5.0  # seconds a payment may take
SETTLE = 0.5  # seconds until the ledger's look-up knows of what was sent


def discover(settings: Settings) -> Catalogue:
    """The catalogue of the run whose data folder the settings name."""
    config = Config.read(settings.data_dir)
    ledger = LedgerClient(config.ledger_port)
    paying = Noting(ledger, once=True, delay=config.delay)
    retry = RetryPolicy(attempts=ATTEMPTS)
    queue = Queue(name=config.queue, tiers=config.tiers, concurrency=config.concurrency, partitions=config.partitions)
    return Catalogue(
        queues=(queue,),
        jobs=(
            Job(
                contract=WRITE,
                queue=config.queue,
                key=lambda write: write.entity,
                handler=Noting(ledger, once=False, delay=config.delay),
                retry=retry,
            ),
            Job(
                contract=PAY,
                queue=config.queue,
                key=lambda pay: pay.entity,
                handler=paying,
                retry=retry,
                timeout=TIMEOUT,
                once=Once(reconcile=paying.look_up, settle=SETTLE, confirms=True),
            ),
        ),
    )
