"""What the gateway and the worker of the benchmark run: sign-ins whose handler only tells when it began."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.notification_signin.model import CONTRACT
from streams.job import Catalogue, Job, Queue

if TYPE_CHECKING:
    from streams.settings import Settings

QUEUE = "bench"
STARTS = "BENCH_STARTS"  # the environment variable that names the file


def discover(settings: Settings) -> Catalogue:
    """One queue, one job."""
    del settings
    queue = Queue(name=QUEUE, tiers=(1,), concurrency=100)
    return Catalogue(queues=(queue,), jobs=(Job(contract=CONTRACT, queue=QUEUE, key=_user, handler=_begun),))


def _user(signin: Any) -> str:
    return str(signin.user_id)


async def _begun(signin: Any, ctx: object) -> None:
    del ctx
    _note(f"{signin.user_id} {time.time()}")


def _note(line: str) -> None:
    with Path(os.environ[STARTS]).open("a") as file:
        file.write(f"{line}\n")
