"""Faust: an agent over the topic's events on uvloop, with ``concurrency`` actors where handlers wait."""

from __future__ import annotations

import logging
import socket
import tempfile
from typing import TYPE_CHECKING

import faust
import uvloop

from tests.bench.records import decode
from tests.bench.task import main

if TYPE_CHECKING:
    from tests.bench.task import Task, Work


async def program(task: Task, work: Work) -> None:
    """Run an app's worker services on this loop until the work is done."""
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            task.group,
            broker=f"kafka://{task.servers}",
            datadir=folder,
            web_enabled=False,
            web_port=_free_port(),
            topic_disable_leader=True,
            broker_commit_interval=1.0,
            stream_wait_empty=False,
        )
        topic = app.topic(task.topic, value_serializer="raw", key_serializer="raw")

        @app.agent(topic, concurrency=task.concurrency if task.wait else 1)
        async def agent(stream: faust.Stream) -> None:
            async for value in stream:
                await work.one(decode(value))

        await app.start()
        await work.done.wait()
        await app.stop()


def _free_port() -> int:
    with socket.socket() as probe:  # Faust takes a port even without its web pages
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(measured: object) -> object:
    """As ``uvloop.run``, without Faust's log lines."""
    logging.disable(logging.WARNING)
    return uvloop.run(measured)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(program, run)
