"""``keylane demo``: the whole system from one command, with a sample load and the proof of what became of it."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from streams.adapters import logs
from streams.adapters.kafka.topics import TopicsRefusedError
from streams.app.demo.load import RefusedError
from streams.app.demo.run import Demo
from streams.app.demo.start import started
from streams.cli.mistakes import explained
from streams.dev.errors import StackError
from streams.engine.family import CoPartitionError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import Settings, load

app = typer.Typer(invoke_without_command=True)

# The sample load does not wait half an hour for its last tier.
TIER_SCALE = 0.02
_PIPE_WIDTH = 130


@app.callback()
def run(
    once: Annotated[bool, typer.Option(help="End after the proof; exit code 0 only if it holds.")] = False,
    records: Annotated[int, typer.Option(min=100, help="Size of the sample load.")] = 3_000,
) -> None:
    """Start everything, send a sample load with faults through, replay the dead letters, prove the result."""
    expected = (CatalogueError, CoPartitionError, RefusedError, StackError, TopicsRefusedError, TransientError)
    with explained(*expected):
        settings = load().model_copy(update={"tier_scale": TIER_SCALE})
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with (settings.data_dir / "demo.log").open("a") as stream:
            logs.configure(settings.log_level, stream)
            holds = uvloop.run(_play(settings, _console(), records, once=once))
    raise typer.Exit(0 if holds else 1)


def _console() -> Console:
    found = Console()
    # A pipe has no width of its own; the table needs this much.
    return found if found.is_terminal else Console(width=_PIPE_WIDTH)


async def _play(settings: Settings, console: Console, records: int, *, once: bool) -> bool:
    playing = asyncio.ensure_future(_show(settings, console, records, once=once))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playing.cancel)
    try:
        return await playing
    except asyncio.CancelledError:
        console.print("ended before the proof")
        return False


async def _show(settings: Settings, console: Console, records: int, *, once: bool) -> bool:
    async with started(settings, console.print) as system:
        console.print(f"gateway {system.url}  docs {system.url}/docs  metrics {system.url}/metrics")
        console.print(f"the tiers' delays are multiplied by {TIER_SCALE:g} for the sample load (KEYLANE_TIER_SCALE)")
        return await Demo(system.settings, console, system.url, records).play(stay=not once)
