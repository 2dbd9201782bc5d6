from __future__ import annotations

from typing import Any

import pytest

from streams.event import from_headers
from streams.job import TransientError
from tests.gateway_doubles import EVENT, HELD, Bench

CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/booking",
    "type": "reservation.held",
    "tenant": "steppe",
    "subject": "r-1",
    "time": "2026-11-24T10:00:00+08:00",
    "datacontenttype": "application/json",
    "data": HELD,
}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def without(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if key != name}


async def test_an_event_is_published_under_its_key_on_its_topic(bench: Bench) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=EVENT)
        accepted = await response.json()

    assert response.status == 202
    (record,) = bench.log.of("events.reservation")
    attributes = from_headers(record.headers)
    assert record.key == b"steppe/r-1"
    assert (attributes["id"], attributes["type"]) == (accepted["id"], "reservation.held")
    assert attributes["tenant"] == "steppe"
    assert attributes["source"] == "/keylane/gateway"
    assert attributes["time"]
    (payload,) = await bench.payloads("events.reservation")
    assert payload.reservation_id == "r-1"


async def test_a_structured_cloud_event_keeps_its_attributes_and_extensions(bench: Bench) -> None:
    event = CLOUD_EVENT | {"traceparent": "00-1", "sampled": True, "priorityclass": 3}
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=event, headers=STRUCTURED)
        accepted = await response.json()

    assert (response.status, accepted["id"]) == (202, "e-1")
    (record,) = bench.log.of("events.reservation")
    assert record.key == b"steppe/r-1"
    assert from_headers(record.headers) == {
        "specversion": "1.0",
        "id": "e-1",
        "type": "reservation.held",
        "source": "/booking",
        "time": "2026-11-24T10:00:00+08:00",
        "subject": "r-1",
        "tenant": "steppe",
        "traceparent": "00-1",
        "sampled": "true",
        "priorityclass": "3",
    }


async def test_a_partition_key_goes_before_the_subject(bench: Bench) -> None:
    async with bench.client() as client:
        event = CLOUD_EVENT | {"partitionkey": "p-9"}
        assert (await client.post("/api/v1/events", json=event, headers=STRUCTURED)).status == 202

    assert bench.log.of("events.reservation")[0].key == b"steppe/p-9"


@pytest.mark.parametrize(
    "event",
    [
        CLOUD_EVENT | {"specversion": "0.3"},
        CLOUD_EVENT | {"id": ""},
        CLOUD_EVENT | {"time": "yesterday"},
        CLOUD_EVENT | {"time": "2026-11-24T10:00:00"},
        CLOUD_EVENT | {"datacontenttype": "text/plain"},
        CLOUD_EVENT | {"data_base64": "AA=="},
        CLOUD_EVENT | {"dataschema": "https://example.com"},
        CLOUD_EVENT | {"Upper": "x"},
        CLOUD_EVENT | {"ext": {"deep": 1}},
        CLOUD_EVENT | {"ext": "two\nlines"},
        CLOUD_EVENT | {"ext": "\ud800"},
        CLOUD_EVENT | {"tenant": "a/b"},
        *(without(name, CLOUD_EVENT) for name in ("specversion", "id", "source", "type", "tenant", "data", "subject")),
    ],
)
async def test_a_cloud_event_that_is_none_is_refused(bench: Bench, event: dict[str, Any]) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=event, headers=STRUCTURED)
        found = await response.json()

    assert (response.status, found["title"]) == (400, "The request does not fit")
    assert found["errors"]
    assert bench.log.messages == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"data": HELD | {"quantity": 0}}, "/data/quantity"),
        ({"data": []}, "/data"),
        ({"time": 5}, "/time"),
        ({"delay": 5}, "/delay"),
        ({"key": None}, ""),
        ({"tenant": "a/b"}, "/tenant"),
        ({"type": "nothing.known"}, "/type"),
        ({"time": "2026-11-24T10:00:00"}, "/time"),
    ],
)
async def test_an_event_that_does_not_fit_is_refused_at_its_place(
    bench: Bench, change: dict[str, Any], pointer: str
) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=EVENT | change)
        found = await response.json()

    assert response.status == 400
    assert [error["pointer"] for error in found["errors"]] == [pointer]


async def test_job_types_are_no_event_types(bench: Bench) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=EVENT | {"type": "notification.signin"})
        found = await response.json()

    assert response.status == 400
    assert found["known"] == [
        "reservation.cancelled",
        "reservation.confirmed",
        "reservation.held",
        "reservation.hold_expired",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/cloudevents-batch+avro"},
        {"Content-Type": "application/cloudevents+protobuf"},
        {"Content-Type": "application/octet-stream", "ce-specversion": "1.0", "ce-id": "1"},
        {"Content-Type": "text/plain"},
    ],
)
async def test_modes_that_are_not_served_are_refused(bench: Bench, headers: dict[str, str]) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=EVENT, headers=headers)

    assert response.status == 415


async def test_without_an_acknowledgement_there_is_no_202(bench: Bench) -> None:
    bench.log.faults["events.reservation"] = TransientError("away")
    async with bench.client() as client:
        response = await client.post("/api/v1/events", json=EVENT)

    assert (response.status, response.headers["Retry-After"]) == (503, "1")
