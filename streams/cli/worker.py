"""``keylane worker``: run consumer groups until SIGTERM or Ctrl-C, then drain and end."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, Any

import structlog
import typer
import uvloop

from streams.adapters import logs
from streams.app.collector import settle
from streams.app.probes import probes
from streams.app.worker import worker
from streams.cli.mistakes import explained
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.engine.family import CoPartitionError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import Settings, load

app = typer.Typer(invoke_without_command=True)
log = structlog.get_logger(__name__)


@app.callback()
def run(
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="Only this consumer group; repeatable.")
    ] = None,
) -> None:
    """Run consumer groups (all of them unless some are named) until SIGTERM or Ctrl-C."""
    with explained(CatalogueError, CoPartitionError, OSError, StackError, TransientError):
        settings = attach(load())
        logs.configure(settings.log_level)
        uvloop.run(_work(settings, group or []))


async def _work(settings: Settings, names: list[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with worker(settings, names) as (made, running):
        async with probes(made, settings.worker_host, settings.worker_port):
            settle()
            log.info("worker started", groups=sorted(made.engines))
            await _until(stop, running)
        log.info("worker drains")
    log.info("worker ended")


async def _until(stop: asyncio.Event, running: asyncio.Future[None]) -> None:
    asked: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    await asyncio.wait([asked, running], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if running.done():
        _raise_first(running)


def _raise_first(running: asyncio.Future[None]) -> None:
    """The first of the engines' errors, in place of the group that TaskGroup makes of them."""
    error = running.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
