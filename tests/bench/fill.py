"""Fills topics before a run: as a foreign producer writes (no headers) or as keylane's publisher does.

Invariant: a key's records have the sequences 0, 1, 2 … in the order of its partition, which murmur2 chooses.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import fastavro
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from streams.event import Attributes, to_headers
from tests.bench.records import NAME, PARSED, PREFIX, entity, key

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARTED = datetime(2026, 1, 1, tzinfo=UTC)
_BATCHES = 20  # under way at once per process


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """``count`` records over ``keys`` keys; ``hot`` is the share of key 0, ``headers`` CloudEvents ones or none."""

    count: int
    partitions: int = 8
    keys: int = 10_000
    hot: float = 0.0
    headers: bool = False
    seed: int = 1


def value(number: int, sequence: int, sent_us: int = 0) -> bytes:
    """The value of one record, about 150 bytes."""
    stream = BytesIO()
    stream.write(PREFIX)
    fields = {
        "order_id": entity(number),
        "customer_id": f"0c9a6f2e-5b1d-4c7e-9f3a-{number:012}",
        "customer_email": f"customer-{number}@example.org",
        "product": f"articles/seat/{number % 997}",
        "status": "placed",
        "amount": 129_900 + number,
        "note": "leave it with the neighbour" if number % 2 else None,
        "placed_at": _STARTED,
        "sent_us": sent_us,
        "sequence": sequence,
    }
    fastavro.schemaless_writer(stream, PARSED, fields)
    return stream.getvalue()


def headers_of(number: int, sequence: int) -> list[tuple[str, bytes]]:
    """The headers keylane's publisher writes."""
    named = Attributes(
        id=f"{entity(number)}-{sequence}",
        type=NAME,
        source="/bench",
        time="2026-01-01T00:00:00Z",
        extensions={"tenant": key(number).decode().partition("/")[0]},
    )
    return to_headers(named)


def partition_of(number: int, partitions: int) -> int:
    """Where Java's producer puts a key."""
    return int(murmur2(key(number)) & 0x7FFFFFFF) % partitions


def fill(servers: str, topic: str, filling: Filling, processes: int = 2) -> None:
    """Write all records and wait for their acknowledgements."""
    shares = [(servers, topic, filling, range(n, filling.partitions, processes)) for n in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_fill_share, shares))


def draws(filling: Filling) -> Iterator[tuple[int, int]]:
    """Keys by number with their sequences, in order."""
    draw, sequences = random.Random(filling.seed), defaultdict[int, int](int)
    for _ in range(filling.count):
        number = 0 if filling.hot and draw.random() < filling.hot else draw.randrange(filling.keys)
        yield number, sequences[number]
        sequences[number] += 1


def _fill_share(share: tuple[str, str, Filling, range]) -> None:
    uvloop.run(_fill(*share))


async def _fill(servers: str, topic: str, filling: Filling, partitions: range) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batches: dict[int, Any] = {p: producer.create_batch() for p in partitions}
        under_way: set[asyncio.Future[Any]] = set()
        places = [partition_of(number, filling.partitions) for number in range(filling.keys)]
        for number, sequence in draws(filling):
            place = places[number]
            if place not in batches:
                continue
            record = _record(filling, number, sequence)
            if batches[place].append(**record) is None:
                under_way.add(await producer.send_batch(batches[place], topic, partition=place))
                batches[place] = producer.create_batch()
                batches[place].append(**record)
                if len(under_way) >= _BATCHES:
                    _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for place, batch in batches.items():
            if batch.record_count():
                under_way.add(await producer.send_batch(batch, topic, partition=place))
        await asyncio.gather(*under_way)


def _record(filling: Filling, number: int, sequence: int) -> dict[str, Any]:
    found = headers_of(number, sequence) if filling.headers else []
    return {
        "key": key(number),
        "value": value(number, sequence),
        "timestamp": int(time.time() * 1000),
        "headers": found,
    }
