"""Publishes a run's jobs at a steady rate: ``python -m tests.chaos.load FOLDER JOBS RATE KEYS``.

Invariant: ``published.jsonl`` gets one line per job, in the order of publication per key: with its place in the log
where the broker acknowledged it (``acks=all``), without one where no answer came and it may or may not be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import uvloop
from schemas.chaos_pay.model import CONTRACT as PAY
from schemas.chaos_pay.model import Pay
from schemas.chaos_write.model import CONTRACT as WRITE
from schemas.chaos_write.model import Write

from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.app.tools import codec
from streams.event import Attributes, record_key, to_headers
from streams.job import TransientError
from streams.ports import Message
from streams.settings import load
from tests.chaos.config import PUBLISHED, Config

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from schemas.codec import Codec
    from streams.ports import Position

ONCE_SHARE = 3  # every third job is marked ``once``
AGAIN = 0.2  # seconds until the next job when no broker could be reached


async def message_of(codec: Codec, queue: str, number: int, entity: str) -> Message:
    """The record of job ``number``."""
    contract, model = (PAY, Pay) if number % ONCE_SHARE == 0 else (WRITE, Write)
    value = await codec.encode(contract, model(entity=entity, number=number))
    headers = to_headers(Attributes(id=f"{queue}-{number}", type=contract.name, extensions={"tenant": "chaos"}))
    return Message(f"jobs.{queue}", record_key("chaos", entity), value, headers)


class Load:
    """Publishes and writes down what became of it."""

    def __init__(self, publisher: KafkaPublisher, file: IO[str]) -> None:
        self._publisher = publisher
        self._file = file
        self._open: set[asyncio.Task[None]] = set()

    async def publish(self, number: int, message: Message) -> None:
        """Queue one job; its answer is noted when it comes."""
        try:
            answer = await self._publisher.send(message)
        except TransientError as error:
            self._note(number, message, None, str(error))
            await asyncio.sleep(AGAIN)
            return
        task = asyncio.create_task(self._settle(number, message, answer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def settle(self) -> None:
        """Wait for the last answers."""
        await asyncio.gather(*self._open)

    async def _settle(self, number: int, message: Message, answer: Awaitable[Position]) -> None:
        try:
            self._note(number, message, await answer, None)
        except TransientError as error:
            self._note(number, message, None, str(error))

    def _note(self, number: int, message: Message, stored: Position | None, reason: str | None) -> None:
        headers = dict(message.headers)
        row = {
            "at": time.time(),
            "id": headers["ce_id"].decode(),
            "type": headers["ce_type"].decode(),
            "key": (message.key or b"").decode(),
            "number": number,
            "partition": stored.partition if stored else None,
            "offset": stored.offset if stored else None,
            "reason": reason,
        }
        self._file.write(json.dumps(row) + "\n")


async def main(folder: Path, jobs: int, rate: float, keys: int) -> None:
    """Publish all jobs, or until SIGTERM, each at its time or as soon after it as the broker lets us."""
    settings, config, draw = load(), Config.read(folder), random.Random(folder.name)
    publisher, enough = KafkaPublisher(client_options(settings)), asyncio.Event()
    await publisher.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    with (folder / PUBLISHED).open("w", buffering=1) as file:
        async with codec(settings) as encoding:
            making = Load(publisher, file)
            started = time.monotonic()
            for number in itertools.takewhile(lambda _: not enough.is_set(), range(1, jobs + 1)):
                late = started + number / rate - time.monotonic()
                if late > 0:
                    await asyncio.sleep(late)
                await making.publish(
                    number, await message_of(encoding, config.queue, number, f"k{draw.randrange(keys)}")
                )
            await making.settle()
    await publisher.stop()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
