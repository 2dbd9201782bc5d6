"""``keylane gateway``: serve HTTP until SIGTERM or Ctrl-C, then finish the requests under way and end."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import structlog
import typer
import uvloop

from streams.adapters import logs
from streams.app.collector import settle
from streams.app.gateway import gateway
from streams.cli.mistakes import explained
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import Settings, load

app = typer.Typer(invoke_without_command=True)
log = structlog.get_logger(__name__)


@app.callback()
def serve(
    host: Annotated[str | None, typer.Option(help="A loopback address; by default KEYLANE_GATEWAY_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="By default KEYLANE_GATEWAY_PORT.", min=1, max=65535)] = None,
) -> None:
    """Serve the HTTP gateway until SIGTERM or Ctrl-C."""
    with explained(CatalogueError, StackError, TransientError):
        settings = attach(load())
        update = {"gateway_host": host or settings.gateway_host, "gateway_port": port or settings.gateway_port}
        logs.configure(settings.log_level)
        uvloop.run(_serve(settings.model_copy(update=update)))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with gateway(settings) as url:
        settle()
        log.info("gateway started", url=url)
        await stop.wait()
        log.info("gateway finishes its requests")
    log.info("gateway ended")
