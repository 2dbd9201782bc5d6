"""Publishes the sample load: events and half of the jobs straight to Kafka, the other half of the jobs over HTTP.

Invariant: the records of a key leave in the order of their numbers, whichever way they take.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import ClientSession

from streams.app.demo.faults import Fault, fault_of, record_id
from streams.event import Attributes, record_key, to_headers
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

    from schemas.contract import Contract
    from streams.app.connections import Connections

_PACE = 20  # records published between two pauses
_PAUSE = 0.02  # seconds


class RefusedError(Exception):
    """The gateway did not take a sample record."""


class Sample(Protocol):
    """One record of ``Catalogue.samples``."""

    contract: Contract
    payload: BaseModel
    tenant: str
    entity: str


@dataclass(slots=True)
class Published:
    """What was acknowledged: ids by record type, and per key in publish order."""

    types: dict[str, str] = field(default_factory=dict)
    over_http: int = 0
    by_key: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, event_id: str, name: str, key: str) -> None:
        """One more record was acknowledged."""
        self.types[event_id] = name
        self.by_key[key].append(event_id)


class Load:
    """Sends the samples of one run."""

    def __init__(self, run: str, found: Connections, gateway: str) -> None:
        self._run = run
        self._found = found
        self._gateway = gateway
        self._queues = {job.type: job.queue for job in found.catalogue.jobs}
        self._latest: dict[str, asyncio.Task[None]] = {}  # by key: a key's requests go one after the other
        self.published = Published()

    async def send(self, samples: Iterable[Sample]) -> Published:
        """Publish all and wait for the acknowledgements."""
        pending: list[Any] = []
        async with ClientSession() as http:
            for number, sample in enumerate(samples):
                pending.append(await self._send(http, number, sample))
                if number % _PACE == 0:
                    await asyncio.sleep(_PAUSE)
            await asyncio.gather(*pending)
        return self.published

    async def _send(self, http: ClientSession, number: int, sample: Sample) -> Any:
        event_id, name = record_id(self._run, number), sample.contract.name
        key = f"{sample.tenant}/{sample.entity}"
        queue = self._queues.get(name)
        by_http = queue is not None and hash_of(key) % 2 == 0 and fault_of(number) is not Fault.POISON
        self.published.add(event_id, name, key)
        if by_http:
            self.published.over_http += 1
            before = self._latest.get(key)
            self._latest[key] = asyncio.create_task(self._post(http, event_id, sample, before))
            return self._latest[key]
        value = b"this is no Avro"
        if fault_of(number) is not Fault.POISON:
            value = await self._found.codec.encode(sample.contract, sample.payload)
        headers = to_headers(Attributes(id=event_id, type=name, extensions={"tenant": sample.tenant}))
        topic = sample.contract.topic if queue is None else f"jobs.{queue}"
        return await self._found.publisher.send(
            Message(topic, record_key(sample.tenant, sample.entity), value, headers)
        )

    async def _post(
        self, http: ClientSession, event_id: str, sample: Sample, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await before
        body = {
            "type": sample.contract.name,
            "tenant": sample.tenant,
            "payload": sample.payload.model_dump(mode="json"),
            "id": event_id,
            "key": sample.entity,
        }
        async with http.post(f"{self._gateway}/api/v1/jobs", json=body) as answer:
            if answer.status != 202:  # noqa: PLR2004 - Accepted
                raise RefusedError(f"the gateway answered {answer.status}: {await answer.text()}")


def hash_of(text: str) -> int:
    """A small hash that is the same in every process."""
    return sum(text.encode())
