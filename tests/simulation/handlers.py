"""What is published into a world and what its handlers do with it: every record's fate is drawn from its number.

The value of a record is its number as text; a codec that knows only that stands in for Avro.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.errors import RegistryUnavailableError, UndecodableError
from streams.core.retry import RetryPolicy
from streams.job import Batch, Group, Reject, Retry, TransientError, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.world import World

FOREVER = 10**6
TIMEOUT = 1.5  # seconds of a run
HOLD, SKIP = "hold", "skip"


class Named(NamedTuple):
    """All of a contract that the runner looks at."""

    name: str


CONTRACTS = {name: Named(name) for name in (HOLD, SKIP)}


@dataclass
class Plan:
    """One record: what its handler does with it. ``failures``: attempts that fail before one succeeds."""

    number: int
    key: bytes | None
    partition: int
    at: float
    failures: int
    broken: bool  # its value cannot be decoded
    size: int
    offset: int = -1
    failed: int = 0
    published: bool = False

    @property
    def type(self) -> str:
        return HOLD if self.key is not None and self.key[-1] % 2 == 0 else SKIP

    @property
    def value(self) -> bytes:
        return f"{self.number}".encode().ljust(self.size)


def plans(seed: int, count: int, keys: Sequence[bytes], partitions: int, until: float) -> list[Plan]:
    draws = random.Random(f"{seed}/records")
    found = []
    for number in range(count):
        key = None if draws.random() < 0.05 else draws.choice(keys)
        x = draws.random()
        failures = 0 if x < 0.6 else draws.randrange(1, 4) if x < 0.9 else FOREVER
        at = draws.uniform(0.0, until) if draws.random() < 0.5 else draws.uniform(0.0, 2.0)
        broken, size = draws.random() < 0.02, draws.choice([1, 1, 120])
        partition = draws.randrange(partitions) if key is None else key[-1] // 2 % partitions
        found.append(Plan(number, key, partition, at, failures, broken, size))
    return found


def number_of(value: bytes) -> int:
    return int(value)


class Number(int):
    """A payload."""

    def model_dump_json(self) -> str:
        return str(int(self))


class NumberReader(NamedTuple):
    """As the codec's: reads the values of one contract."""

    contract: Named

    def read(self, value: bytes) -> Number:
        return Number(number_of(value))


class NumberCodec:
    """Stands in for ``schemas.codec.Codec``: now and then the schema is not at hand, or the registry is away."""

    def __init__(self, world: World) -> None:
        self._world = world

    def reader(self, value: bytes) -> NumberReader | None:
        plan = self._world.plans[number_of(value)]
        if plan.broken:
            raise UndecodableError("damaged")
        if self._world.faults.strikes("schema-unknown", 0.02):
            return None
        return NumberReader(CONTRACTS[plan.type])

    async def load(self, value: bytes) -> None:
        await asyncio.sleep(0.05)
        if self._world.faults.strikes("registry-away", 0.3):
            raise RegistryUnavailableError("away")

    async def encode_fields(self, contract: Any, fields: dict[str, Any]) -> bytes:
        """Of a status."""
        return json.dumps({name: fields[name] for name in ("status", "topic", "partition", "offset")}).encode()


class Handlers:
    """The handlers of one process."""

    def __init__(self, world: World, worker: Any) -> None:
        self._world = world
        self._worker = worker

    def group(self) -> Group:
        world, batched = self._world, self._world.limits.batch > 1
        works = {
            name: Work(
                handler=self.many if batched else self.one,
                retry=RetryPolicy(attempts=world.attempts, in_place=world.in_place, on_dead=name),  # type: ignore[arg-type]
                timeout=TIMEOUT,
                batch=Batch(size=world.limits.batch, linger=world.limits.linger) if batched else None,
            )
            for name in (HOLD, SKIP)
        }
        return Group(name="g", source="s", tiers=world.tiers, partitions=world.partitions, concurrency=9, works=works)

    async def one(self, number: int, context: Any) -> Any:
        return await self._run([number], [context])

    async def many(self, numbers: Sequence[int], contexts: Sequence[Any]) -> Any:
        return await self._run(numbers, contexts)

    async def _run(self, numbers: Sequence[int], contexts: Sequence[Any]) -> Any:
        draws, records = self._world.random, [context._record for context in contexts]
        run = self._world.promises.begin(self._worker, numbers, records)
        try:
            for _ in range(draws.choice([0, 0, 1, 2])):
                await asyncio.sleep(draws.choice([0.0, 0.01, 0.3]))
            failing = [n for n in numbers if self._world.plans[n].failed < self._world.plans[n].failures]
            if failing:
                return await self._fail(failing if len(numbers) == 1 else [])
            for number in numbers:
                self._world.promises.effect(self._worker, number)
            if draws.random() < 0.3:
                await asyncio.sleep(draws.choice([0.0, 0.2]))
            self._world.promises.succeeded(self._worker, numbers, records)
            return None
        finally:
            self._world.promises.end(run)

    async def _fail(self, numbers: Sequence[int]) -> Any:
        """A batch fails as a whole and touches nothing; it is the record alone that uses an attempt up."""
        world = self._world
        if world.faults.strikes("handler-blocked", 0.1):
            raise TransientError("something outside is away")
        for number in numbers:
            world.plans[number].failed += 1
            world.note(f"#{number} fails in {self._worker.name}")
        return await self._badly(world.random.choice(["raise", "raise", "soon", "later", "reject", "hang", "cancel"]))

    async def _badly(self, how: str) -> Any:
        if how == "hang":
            await asyncio.sleep(TIMEOUT * 10)
        if how == "cancel":
            raise asyncio.CancelledError
        if how == "reject" and self._world.random.random() < 0.3:
            return Reject("refused")
        if how in {"soon", "later"}:
            return Retry("not yet", after=0.3 if how == "soon" else 1.5)
        raise RuntimeError("boom")
