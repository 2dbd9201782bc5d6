"""``/api/v1/events``: publish an event, as plain JSON or as a CloudEvent in structured mode."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from streams.door import ProblemError, RouteSpec
from streams.event import Attributes
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.ids import uuid7
from streams.gateway.intake import SOURCE, checked_key, now
from streams.gateway.jobs import fitting, json_answer, unknown_type
from streams.gateway.models import CloudEvent, EventAccepted, EventRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from pydantic import BaseModel

    from schemas.contract import Contract
    from streams.gateway.intake import Intake
    from streams.metrics import Metrics

STRUCTURED = "application/cloudevents+json"


class EventRoutes:
    """The route of events; ``contracts`` of kind event, by name."""

    def __init__(self, contracts: Mapping[str, Contract], intake: Intake, metrics: Metrics) -> None:
        self._contracts = contracts
        self._intake = intake
        self._metrics = metrics

    def specs(self, documented: type[BaseModel]) -> tuple[RouteSpec, ...]:
        """The route; ``documented`` describes the bodies of all event types."""
        return (
            RouteSpec(
                method="POST",
                path="/api/v1/events",
                summary="Publish an event, as plain JSON or as a CloudEvent in structured mode",
                scope=Scope.EVENTS_WRITE,
                build=lambda _: self.post,
                body=documented,
                other_bodies={STRUCTURED: CloudEvent},
                answer=EventAccepted,
                statuses={
                    202: "The broker has acknowledged the event.",
                    400: "The body does not fit, or the type is not known.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing, or the tenant is another one's.",
                    413: "The body is too large.",
                    415: "The body is neither plain JSON nor a structured CloudEvent.",
                    503: "The broker does not acknowledge, or too much is waiting.",
                },
            ),
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Publish an event."""
        asked = await _asked(request)
        contract = self._contracts.get(asked.type)
        if contract is None:
            raise unknown_type(asked.type, self._contracts)
        tenant = request[CALLER].acting_for(asked.tenant)
        payload = fitting(contract, asked.data, "/data")
        attributes = Attributes(
            id=asked.id or uuid7(),
            type=asked.type,
            source=asked.source or SOURCE,
            time=asked.time or now(),
            subject=asked.subject,
            extensions={**asked.extensions, "tenant": tenant},
        )
        key = checked_key(tenant, asked.entity)
        message = await self._intake.message(contract, payload, attributes, topic=contract.topic, key=key)
        (stored,) = await self._intake.publish("event", message)
        if isinstance(stored, BaseException):
            raise stored
        self._metrics.inc("keylane_accepted_total", kind="event", type=asked.type)
        return json_answer(EventAccepted(id=attributes.id, **stored._asdict()), HTTPStatus.ACCEPTED)


async def _asked(request: web.Request) -> EventRequest | CloudEvent:
    if "ce-specversion" in request.headers:
        detail = "CloudEvents in binary mode are not supported; send structured mode (application/cloudevents+json)."
        raise ProblemError("unsupported-media-type", detail)
    value = await body.read(request, (body.JSON, STRUCTURED))
    if request.content_type == STRUCTURED:
        return body.fitted(CloudEvent, value)
    return body.fitted(EventRequest, value)
