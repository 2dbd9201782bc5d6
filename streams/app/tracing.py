"""Switches traces on for a process, if the settings name a collector.

Invariant: without a collector no tracing is imported, and nothing stands around requests and runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import socket
from typing import TYPE_CHECKING

from streams.deadletters.ledger import TOPIC as STATES
from streams.history import TOPIC as HISTORY
from streams.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from streams.ports import Tracing
    from streams.settings import Settings

SILENT = (HISTORY, STATES)
"""Topics of our own book-keeping: traces do not tell of it."""
_PARTS = {"opentelemetry", "google", "requests"}  # of the extra


@contextlib.asynccontextmanager
async def tracing(settings: Settings, service: str) -> AsyncIterator[Tracing | None]:
    """The process's tracing, None where it is off; on leaving, what is left of the spans is sent.

    Raises:
        SettingsError: It is on, and OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is None:
        yield None
        return
    made = _adapter().exporting(
        settings.otlp_endpoint,
        service=service,
        instance=f"{socket.gethostname()}:{os.getpid()}",
        version=importlib.metadata.version("keylane"),
        ratio=settings.trace_ratio,
    )
    made.share()
    try:
        yield made
    finally:
        await made.close()


def _adapter() -> ModuleType:
    try:
        return importlib.import_module("streams.adapters.tracing")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PARTS:
            raise
        raise SettingsError(
            "KEYLANE_OTLP_ENDPOINT: traces need OpenTelemetry, which is not installed: "
            "run pip install 'keylane[otel]', or take the setting away"
        ) from None
