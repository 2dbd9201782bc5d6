"""Starts what the demonstration needs: the embedded servers, the topics, the gateway."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.catalogue import contracts
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin, TopicsRefusedError
from streams.app.gateway import gateway
from streams.catalogue import load_catalogue
from streams.dev import ports
from streams.dev.stack import Stack
from streams.topics import Refuse, wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Started:
    """A system that runs; ``settings`` name every server."""

    settings: Settings
    url: str


@contextlib.asynccontextmanager
async def started(settings: Settings, report: Callable[[str], None]) -> AsyncIterator[Started]:
    """Servers (embedded where none are named), topics and gateway, ended in the reverse order.

    Raises:
        StackError: An embedded server cannot be had or started.
        TopicsRefusedError: The cluster's topics contradict the declarations.
        TransientError: The broker cannot be reached.
    """
    stack = Stack.of(settings, report=report)
    await stack.astart()
    try:
        free = ports.choose(settings.gateway_port, None, "gateway")
        named = stack.settings(settings).model_copy(update={"gateway_port": free})
        await apply_topics(named)
        async with gateway(named) as url:
            yield Started(named, url)
    finally:
        await stack.astop()


async def apply_topics(settings: Settings) -> None:
    """Create what is missing."""
    admin = TopicAdmin(client_options(settings))
    actions = await admin.plan(wanted(load_catalogue(settings), contracts(), settings.replication_factor))
    refusals = [str(action) for action in actions if isinstance(action, Refuse)]
    if refusals:
        raise TopicsRefusedError("; ".join(refusals))
    await admin.apply(actions)
