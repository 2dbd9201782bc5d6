"""``/api/v1/events``: publish events, as plain JSON or as CloudEvents in any mode."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import RootModel

from streams.door import ProblemError, RouteSpec
from streams.event import Attributes
from streams.gateway import batches, body, cloudevents, idempotency
from streams.gateway.access import CALLER, Scope
from streams.gateway.batches import Asked, BatchAnswer
from streams.gateway.ids import uuid7
from streams.gateway.intake import SOURCE, checked_key, now
from streams.gateway.jobs import fitting, json_answer, unknown_type
from streams.gateway.models import EventAccepted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from pydantic import BaseModel

    from schemas.contract import Contract
    from streams.gateway.access import Caller
    from streams.gateway.cloudevents import Incoming
    from streams.gateway.idempotency import Given, Idempotency
    from streams.gateway.intake import Intake
    from streams.gateway.problems import Problems
    from streams.metrics import Metrics
    from streams.ports import Message


class EventsAccepted(RootModel[EventAccepted | BatchAnswer]):
    """The answer to an event, or to a batch all of whose events were taken."""


class Record(NamedTuple):
    """An event ready to be written."""

    id: str
    type: str
    message: Message


class EventRoutes:
    """The route of events.

    Args:
        contracts: Of kind event, by name.
        acks: Who has acknowledged an event that is accepted.
    """

    def __init__(
        self,
        contracts: Mapping[str, Contract],
        intake: Intake,
        idempotency: Idempotency,
        problems: Problems,
        metrics: Metrics,
        *,
        acks: Literal["all", "leader"],
    ) -> None:
        self._contracts = contracts
        self._intake = intake
        self._idempotency = idempotency
        self._problems = problems
        self._metrics = metrics
        self._acks: Literal["all", "leader"] = acks

    def specs(
        self, documented: type[BaseModel], cloud_events: tuple[type[BaseModel], type[BaseModel]]
    ) -> tuple[RouteSpec, ...]:
        """The route; ``documented`` describes the bodies of all event types, ``cloud_events`` one and a batch."""
        return (
            RouteSpec(
                method="POST",
                path="/api/v1/events",
                summary="Publish an event, as plain JSON or as a CloudEvent in any mode, or a batch of CloudEvents",
                scope=Scope.EVENTS_WRITE,
                build=lambda _: self.post,
                body=documented,
                other_bodies=dict(zip((cloudevents.STRUCTURED, cloudevents.BATCH), cloud_events, strict=True)),
                headers=idempotency.HEADERS,
                answer=EventsAccepted,
                answers={HTTPStatus.MULTI_STATUS: BatchAnswer},
                statuses={
                    202: "The broker has acknowledged the event, or all events of the batch (then as for 207).",
                    207: "Some events of the batch were taken, others were not.",
                    400: "The body or a header does not fit, or the type is not known.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing, or the tenant is another one's.",
                    413: "The body is too large.",
                    415: "The body is neither plain JSON nor a CloudEvent with JSON data, or packed in another way.",
                    503: "The broker does not acknowledge, or too much is waiting.",
                    **idempotency.STATUSES,
                },
            ),
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Publish an event, or a batch."""
        events, batch = await cloudevents.taken(request)
        tenant = idempotency.named_tenant(events[0].value) if events else None
        given = await idempotency.given(request, tenant)
        work = partial(self._many, events) if batch else partial(self._one, events[0])
        return await self._idempotency.run(given, partial(work, request[CALLER], given))

    async def _one(self, event: Incoming, caller: Caller, given: Given | None) -> web.Response:
        record = await self._record(event, caller, given, 0)
        (stored,) = await self._intake.publish("event", record.message)
        if isinstance(stored, BaseException):
            raise stored
        self._metrics.inc("keylane_accepted_total", kind="event", type=record.type)
        return json_answer(EventAccepted(id=record.id, acks=self._acks, **stored._asdict()), HTTPStatus.ACCEPTED)

    async def _many(self, events: list[Incoming], caller: Caller, given: Given | None) -> web.Response:
        asked = [
            Asked(partial(self._record, event, caller, given, number), partial(_key, event.value, caller))
            for number, event in enumerate(events)
        ]
        ready = await batches.ready(asked)
        accepted: dict[int, dict[str, Any]] = {}
        ends = await self._intake.publish("event", *(record.message for record in ready.records.values()))
        for (number, record), stored in zip(ready.records.items(), ends, strict=True):
            if isinstance(stored, BaseException):
                ready.refused[number] = batches.told(stored)
                continue
            self._metrics.inc("keylane_accepted_total", kind="event", type=record.type)
            accepted[number] = {"id": record.id, **stored._asdict()}
        return batches.answer(self._problems, len(events), accepted, ready.refused)

    async def _record(self, event: Incoming, caller: Caller, given: Given | None, number: int) -> Record:
        try:
            return await self._made(event, caller, given, number)
        except ProblemError as error:
            error.errors = tuple(map(event.told, error.errors))  # type: ignore[arg-type]  # as yet all in the body
            raise

    async def _made(self, event: Incoming, caller: Caller, given: Given | None, number: int) -> Record:
        body.check_record(event.value)
        asked = event.parsed()
        contract = self._contracts.get(asked.type)
        if contract is None:
            raise unknown_type(asked.type, self._contracts)
        tenant = caller.acting_for(asked.tenant)
        payload = fitting(contract, asked.data, "/data")
        request = None if given is None else given.id(number)
        attributes = Attributes(
            id=asked.id or request or uuid7(),
            type=asked.type,
            source=asked.source or SOURCE,
            time=asked.time or now(),
            subject=asked.subject,
            extensions={**asked.extensions, "tenant": tenant},
        )
        key = checked_key(tenant, asked.entity)
        message = await self._intake.message(
            contract, payload, attributes, topic=contract.topic, key=key, request=request
        )
        return Record(attributes.id, asked.type, message)


def _key(value: Any, caller: Caller) -> object:
    """Of an event that may be none: its tenant and entity, as far as they can be told."""
    if not isinstance(value, dict):
        return None
    entity = value.get("partitionkey") or value.get("subject")
    return (str(value.get("tenant") or caller.tenant), str(entity)) if entity else None
