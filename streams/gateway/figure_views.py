"""What the gateway tells of numbers, as models for ``/openapi.json``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streams.gateway.models import Answer
from streams.gateway.views import Memory

Count = Annotated[int, Field(ge=0)]


class SampleView(Answer):
    """One number of a metric; of a histogram the name ends with ``_bucket``, ``_sum`` or ``_count``."""

    name: str
    labels: dict[str, str]
    value: float | None


class MetricView(Answer):
    """A metric as it stands in this process."""

    name: str
    kind: str
    help: str
    samples: list[SampleView]


class MetricsView(Answer):
    """All metrics of this process; of several that share a port, whichever answers."""

    metrics: list[MetricView]


class QueueFigures(Answer):
    """Where a queue stands, for all processes together, at most five seconds ago.

    The figures of the log count records since its topics were made; what the database knows is null while it is away.
    """

    queue: str
    accepted: Annotated[Count, Field(description="Jobs published.")]
    processed: Annotated[Count, Field(description="Of these, done, or moved on to a retry topic or the dead letters.")]
    lag: Annotated[Count, Field(description="Of these, not processed yet, in flight included.")]
    retried: Annotated[Count, Field(description="Moves into retry topics, of failed jobs and of those behind them.")]
    parked: Annotated[Count, Field(description="Records that wait in retry topics now.")]
    dead: Annotated[Count, Field(description="Moves into the dead letters, of jobs given up and of those behind them.")]
    in_flight: Annotated[Count | None, Field(description="Jobs that run now, as far as they have been told of.")]
    failed: Annotated[Count | None, Field(description="Jobs whose last run failed and that will run again.")]


class QueueStats(Answer):
    """All queues of this deployment."""

    queues: list[QueueFigures]


class CpuView(Answer):
    """Of this process since its start, in seconds; ``cores`` it may use."""

    user_seconds: float
    system_seconds: float
    cores: int


class LoopView(Answer):
    """How much later than due the event loop did something: in the last quarter of a second, at most in a minute."""

    lag_seconds: float
    most_lag_seconds: float
    tasks: int


class CollectorView(Answer):
    """A generation of the garbage collector."""

    collections: int
    collected: int
    uncollectable: int


class FilesView(Answer):
    """Open files and connections, and how many there may be."""

    open: int
    limit: int


class SystemView(Answer):
    """What this process is and uses; of several that share a port, whichever answers."""

    pid: int
    uptime_seconds: float
    cpu: CpuView
    memory: Memory
    event_loop: LoopView
    garbage_collector: list[CollectorView]
    files: FilesView
    threads: int
    versions: dict[str, str]
