"""A worker in a process of its own, to be killed: notes each effect in a file that outlives it.

Usage: python -m tests.integration.kill_child BOOTSTRAP GROUP SOURCE LEDGER
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from streams.core.retry import RetryPolicy
from streams.job import Group, Work
from streams.settings import Settings
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry

ATTEMPTS_BEFORE_SUCCESS = dict.fromkeys(range(0, 100000, 97), 1)


def group_of(name: str, source: str, handler: object = None) -> Group:
    works = {ORDER.name: Work(handler=handler, retry=RetryPolicy(attempts=3))}
    return Group(name=name, source=source, tiers=(0.5,), partitions=4, concurrency=200, works=works)


async def main(bootstrap: str, name: str, source: str, ledger: str) -> None:
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(order, ctx) -> None:
        await asyncio.sleep(0.003)
        if order.number % 97 == 0 and ctx.attempt == 1:
            raise ValueError("once")
        os.write(file, f"{time.time()} {ctx.key} {order.number}\n".encode())

    kit = Kit(
        Settings(_env_file=None, kafka_bootstrap_servers=bootstrap), group_of(name, source, handle), MemoryRegistry()
    )
    await kit.codec.encode(ORDER, ORDER.model(number=0))  # the one schema there is gets id 1
    await kit.publisher.start()
    async with kit.engine(instance="the-only-one"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
