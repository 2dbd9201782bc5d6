"""``keylane gateway``: serve HTTP until SIGTERM or Ctrl-C, then finish the requests under way and end."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated

import structlog
import typer
import uvloop

from streams.adapters import logs
from streams.app.collector import settle
from streams.app.gateway import check_port, gateway, url_of
from streams.app.processes import Processes, StartError, follow
from streams.cli.mistakes import explained
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import Settings, load

app = typer.Typer(invoke_without_command=True)
log = structlog.get_logger(__name__)
KEYLANE = (sys.executable, "-c", "from streams.cli import main; main()")
_MARGIN = 10.0  # seconds beyond the drain for closing connections and sending the last spans


@app.callback()
def serve(
    host: Annotated[str | None, typer.Option(help="A loopback address; by default KEYLANE_GATEWAY_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="By default KEYLANE_GATEWAY_PORT.", min=1, max=65535)] = None,
    processes: Annotated[int, typer.Option(help="How many share the port.", min=1, max=64)] = 1,
    process: Annotated[int | None, typer.Option(hidden=True, help="The number of one of several.")] = None,
    link: Annotated[int | None, typer.Option(hidden=True, help="Its socket to its parent.")] = None,
) -> None:
    """Serve the HTTP gateway until SIGTERM or Ctrl-C."""
    with explained(CatalogueError, StackError, StartError, TransientError):
        settings = attach(load())
        update = {"gateway_host": host or settings.gateway_host, "gateway_port": port or settings.gateway_port}
        settings = settings.model_copy(update=update)
        logs.configure(settings.log_level)
        if processes > 1:
            uvloop.run(_keep(settings, processes))
            return
        if process is not None:
            structlog.contextvars.bind_contextvars(process=process)
        uvloop.run(_serve(settings, process, link))


async def _serve(settings: Settings, process: int | None, link: int | None) -> None:
    stop = _stopped_by_signals()
    async with gateway(settings, process) as url:
        settle()
        log.info("gateway started", url=url)
        following = None if link is None else asyncio.create_task(follow(link, stop))
        await stop.wait()
        if following is not None:
            following.cancel()
        log.info("gateway finishes its requests")
    log.info("gateway ended")


async def _keep(settings: Settings, count: int) -> None:
    """Serve with several processes, of which this is none."""
    url_of(settings)
    check_port(settings)
    stop = _stopped_by_signals()
    address = ("--host", settings.gateway_host, "--port", str(settings.gateway_port))

    def command(number: int, link: int) -> list[str]:
        return [*KEYLANE, "gateway", *address, "--process", str(number), "--link", str(link)]

    log.info("gateway starts its processes", processes=count)
    await Processes(command, count, grace=settings.drain_timeout + _MARGIN).run(stop)
    log.info("gateway ended")


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
