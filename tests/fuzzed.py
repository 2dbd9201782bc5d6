"""A gateway of the example deployment for schemathesis: stand-ins, one Redis, and a worker whose jobs end at once.

``python -m tests.fuzzed --max-examples 1000`` tries more than the test does; what follows is given to schemathesis.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.job_status.model import CONTRACT as STATUS
from schemas.job_status.model import Status
from streams.adapters.redis import connect
from streams.dev import ports
from streams.dev.stack import Stack
from streams.event import from_headers
from streams.gateway.access import Scope
from streams.ports import Message, TopicPartition
from tests.unit.test_tenants import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.audit import Act
    from streams.keys import ApiKey
    from tests.gateway_doubles import Bench

CONFIG = Path(__file__).with_name("schemathesis.toml")


async def schemathesis(redis_url: str, *words: str) -> tuple[int, str]:
    """Its exit code, and what it said."""
    async with _served(redis_url) as (url, key):
        command = ["--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--url", url]
        command += ["--header", f"Authorization: Bearer {key}", "--no-color", *words]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", *command, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, said.decode()


@asynccontextmanager
async def _served(redis_url: str) -> AsyncIterator[tuple[str, str]]:
    world, redis = World(), connect(redis_url)
    world.bench.changes["redis"] = redis
    key = world.gate.key(Scope.ADMIN, tenant=None)
    _spare(world, key.key.prefix)
    async with world.bench.client() as client:
        working = asyncio.create_task(_work(world.bench))
        yield str(client.make_url("")).rstrip("/"), key.text
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    await redis.aclose()


def _spare(world: World, prefix: str) -> None:
    """Keep the key of the trials, which they find in the list of keys and revoke."""
    revoke = world.gate.store.revoke

    async def all_but_that(key: ApiKey, act: Act) -> ApiKey:
        return key if key.prefix == prefix else await revoke(key, act)

    world.gate.store.revoke = all_but_that  # type: ignore[method-assign]


async def _work(bench: Bench) -> None:
    """Ends each job as soon as it is stored, so that nobody who waits for it waits long."""
    async for records in bench.log.follow({TopicPartition("jobs.emails", 0): 0}):
        for record in records:
            attributes = from_headers(record.headers)
            tenant = (record.key or b"").decode().partition("/")[0]
            status = Status(
                job_id=attributes["id"],
                type=attributes["type"],
                queue="emails",
                tenant=tenant,
                key=(record.key or b"").decode(),
                status="completed",
                attempt=1,
                replays=0,
                time=record.timestamp,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
            )
            bench.history.store(status)
            value = await bench.codec.encode(STATUS, status)
            await bench.log.publish(Message("job-status", status.job_id.encode(), value))


def main() -> None:
    """Start a Redis, and try."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), parts=("redis",), asked={"redis": ports.any_free()})
        stack.start()
        try:
            code, said = asyncio.run(schemathesis(str(stack.addresses.redis_url), *sys.argv[1:]))
        finally:
            stack.stop()
    print(said)
    sys.exit(code)


if __name__ == "__main__":
    main()
