"""Handlers that run in processes of their own: they must be importable by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def note_process(order: Any, ctx: Any) -> None:
    """Append number and process id to the file named by the order."""
    with Path(order.name).open("a") as file:
        file.write(f"{order.number} {os.getpid()}\n")


def die(order: Any, ctx: Any) -> None:
    """End the process in the middle of the work, as the kernel would for want of memory."""
    del order, ctx
    os._exit(9)


def overrun(order: Any, ctx: Any) -> None:
    """Take longer than any time-out, noting the start."""
    note_process(order, ctx)
    time.sleep(60)
