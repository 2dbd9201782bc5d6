"""What this process is and uses, and how late its event loop is."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import platform
import resource
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from streams.gateway.figure_views import CollectorView, CpuView, FilesView, LoopView, SystemView
from streams.gateway.health import memory

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY = 0.25  # seconds
_MINUTE = 240  # of them
_LIBRARIES = ("aiohttp", "aiokafka", "fastavro", "pydantic", "redis", "sqlalchemy", "uvloop")


class LoopLag:
    """Looks four times a second how much later than due the event loop comes to it.

    Attributes:
        last: Seconds of lag at the last look.
    """

    def __init__(self) -> None:
        self.last = 0.0
        self._seen: deque[float] = deque(maxlen=_MINUTE)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def most(self) -> float:
        """The largest of the last minute."""
        return max(self._seen, default=0.0)

    def start(self) -> None:
        """Begin to look, on the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _EVERY

        def look() -> None:
            self.last = max(0.0, loop.time() - due)
            self._seen.append(self.last)
            self.start()

        self._timer = loop.call_at(due, look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


class System:
    """Looks at this process.

    Args:
        version: Of keylane.
        monotonic: The clock of the uptime.
    """

    def __init__(self, version: str, lag: LoopLag, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._versions = {
            "keylane": version,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
        self._lag = lag
        self._monotonic = monotonic
        self._since = monotonic()

    def view(self) -> SystemView:
        """As it is now."""
        times = os.times()
        return SystemView(
            pid=os.getpid(),
            uptime_seconds=round(self._monotonic() - self._since, 3),
            cpu=CpuView(user_seconds=times.user, system_seconds=times.system, cores=len(os.sched_getaffinity(0))),
            memory=memory(),
            event_loop=LoopView(
                lag_seconds=self._lag.last, most_lag_seconds=self._lag.most, tasks=len(asyncio.all_tasks())
            ),
            garbage_collector=[CollectorView(**generation) for generation in gc.get_stats()],
            files=FilesView(open=_open_files(), limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            threads=threading.active_count(),
            versions=self._versions,
        )


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
