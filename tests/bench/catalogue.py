"""What the real worker runs when its start is measured: one handler that notes the moment it is called."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.reservation_confirmed.model import CONTRACT
from streams.job import Catalogue, Subscription

if TYPE_CHECKING:
    from streams.settings import Settings

GROUP = "bench-start"
FILE = "BENCH_FILE"  # the environment variable that names the file


def discover(settings: Settings) -> Catalogue:
    """See ``KEYLANE_CATALOGUE``."""
    del settings
    return Catalogue(subscriptions=(Subscription(name=GROUP, contracts=(CONTRACT,), handler=_note),))


async def _note(payload: Any, ctx: Any) -> None:
    _write(time.time())


def _write(moment: float) -> None:
    with Path(os.environ[FILE]).open("a") as file:
        file.write(f"{moment}\n")
