"""Publishes JSON values through a gateway: neighbours of one kind in one request, one request after the other.

Invariant: values are published in the order of the file; what is refused is told of with its line.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.envelope import UnpublishableError
from streams.job import TransientError
from streams.publishing import Bad, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from streams.client import AsyncClient
    from streams.core.jsonfeed import Value
    from streams.gateway.batches import RecordResult
    from streams.publishing import Checked, Checker

_MOST = 500  # of one request
_MOST_BYTES = 131_072


class _Item(NamedTuple):
    """A value as the API takes it, and the line it starts in."""

    line: int
    kind: str
    body: dict[str, Any]


class GatewayPublication:
    """As ``streams.publishing.Publication``, through a gateway.

    Args:
        checker: Sees what can be told of a value without asking.
        new_id: Gives an id to events that have none.
    """

    def __init__(
        self,
        client: AsyncClient,
        checker: Checker,
        new_id: Callable[[], str],
        *,
        skip_bad: bool,
        on_bad: Callable[[Bad], None],
    ) -> None:
        self._client = client
        self._checker = checker
        self._new_id = new_id
        self._skip_bad = skip_bad
        self._on_bad = on_bad
        self._batch: list[_Item] = []
        self._bytes = 0
        self._bad = 0
        self.published = 0

    async def run(self, values: AsyncIterable[Value]) -> Report:
        """Publish until the end or the first bad value.

        Raises:
            TransientError: The gateway could not take a record; ``published`` counts those before it.
            ApiError, UnreachableError: It refused a request, or did not answer.
        """
        async for value in values:
            stopped = await self._add(value)
            if stopped is not None:
                return stopped
        return await self._flush() or Report(self.published, self._bad)

    async def _add(self, value: Value) -> Report | None:
        try:
            item = self._item(value)
        except UnpublishableError as error:
            return await self._flush() or self._passed(Bad(value.line, str(error)))
        size = len(json.dumps(item.body))
        full = len(self._batch) == _MOST or self._bytes + size > _MOST_BYTES
        stopped = await self._flush() if self._batch and (full or item.kind != self._batch[0].kind) else None
        self._batch.append(item)
        self._bytes += size
        return stopped

    def _item(self, value: Value) -> _Item:
        if value.problem is not None:
            raise UnpublishableError(value.problem)
        found = self._checker.check(value.value)
        if found.contract.kind == "event":
            return _Item(value.line, "event", self._event(found))
        return _Item(value.line, "job", _job(found))

    def _event(self, found: Checked) -> dict[str, Any]:
        told = found.envelope.attributes(self._new_id)
        named = {"id": told.id, "source": told.source, "type": told.type, "time": told.time, "subject": told.subject}
        return {
            "specversion": "1.0",
            **{name: value for name, value in named.items() if value is not None},
            **told.extensions,
            "partitionkey": found.entity,
            "data": found.envelope.data,
        }

    def _passed(self, bad: Bad, behind: int = 0) -> Report | None:
        """Count a bad value; the report, where it is the last thing that happens."""
        self._on_bad(bad)
        self._bad += 1
        return None if self._skip_bad else Report(self.published, self._bad, bad, behind)

    async def _flush(self) -> Report | None:
        """Publish the batch; the report, where that is the end."""
        while self._batch:
            items, self._batch, self._bytes = self._batch, [], 0
            stopped = self._noted(items, await self._sent(items))
            if stopped is not None:
                return stopped
        return None

    async def _sent(self, items: list[_Item]) -> list[RecordResult]:
        bodies = [item.body for item in items]
        if items[0].kind == "event":
            return (await self._client.publish_many(bodies)).results
        return (await self._client.submit_many(bodies)).results

    def _noted(self, items: list[_Item], results: list[RecordResult]) -> Report | None:
        accepted = [result.status == HTTPStatus.ACCEPTED for result in results]
        for number, (item, result) in enumerate(zip(items, results, strict=True)):
            if result.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise TransientError(f"line {item.line}: {_reason(result)}")
            self.published += accepted[number]
            if result.status == HTTPStatus.FAILED_DEPENDENCY:
                self._batch.append(item)  # in front of it something was refused, which has been passed over
            elif not accepted[number]:
                behind = sum(accepted[number:])
                stopped = self._passed(Bad(item.line, _reason(result)), behind)
                if stopped is not None:
                    self.published += behind
                    return stopped._replace(published=self.published)
        return None


def _job(found: Checked) -> dict[str, Any]:
    """What a CloudEvent says of a job beside its id and key, the gateway says in its own words."""
    told = {"type": found.envelope.type, "tenant": found.envelope.tenant, "payload": found.envelope.data}
    more = {"id": found.envelope.id, "key": found.entity}
    return told | {name: value for name, value in more.items() if value is not None}


def _reason(result: RecordResult) -> str:
    """The problem in one sentence, with its places."""
    problem = result.problem or {}
    places = [f"{each.get('pointer', '')}: {each['detail']}" for each in problem.get("errors", [])]
    return "; ".join([str(problem.get("detail") or result.status), *places])
