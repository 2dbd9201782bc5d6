"""CloudEvents over HTTP: every mode, as the SDK sends it and as strangers do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event import from_headers
from streams.job import TransientError
from streams.ports import RecordRefusedError
from tests.gateway_doubles import HELD, Bench

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTRIBUTES = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/booking",
    "type": "reservation.held",
    "tenant": "steppe",
    "subject": "r-1",
}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()} | {"Content-Type": "application/json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
EVENT = ATTRIBUTES | {"data": HELD}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def answered(bench: Bench, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        bench.client() as client,
        client.post("/api/v1/events", data=data, headers=headers) as response,
    ):
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("to_http", [http.to_binary_event, http.to_structured_event])
async def test_the_sdk_is_a_client_as_it_is(bench: Bench, to_http: Any) -> None:
    event = CloudEvent(
        ATTRIBUTES | {"subject": "Өрөө 1%", "datacontenttype": "application/json", "partitionkey": "r-1"}, HELD
    )
    message = to_http(event)
    status, accepted = await answered(bench, message.body, message.headers)

    assert (status, accepted["id"], accepted["acks"]) == (202, "e-1", "all")
    (record,) = bench.log.of("events.reservation")
    assert record.key == b"steppe/r-1"
    found = from_headers(record.headers)
    assert found["subject"] == "Өрөө 1%"
    assert "datacontenttype" not in found
    (payload,) = await bench.payloads("events.reservation")
    assert payload.reservation_id == "r-1"


async def test_the_sdks_own_format_makes_a_batch(bench: Bench) -> None:
    events = [CloudEvent(ATTRIBUTES | {"id": f"e-{number}"}, HELD) for number in range(3)]
    body = b"[" + b",".join(JSONFormat().write(event) for event in events) + b"]"
    status, found = await answered(bench, body, {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"})

    assert (status, found["accepted"], found["refused"]) == (202, 3, 0)
    assert [(each["status"], each["id"], each["offset"]) for each in found["results"]] == [
        (202, "e-0", 0),
        (202, "e-1", 1),
        (202, "e-2", 2),
    ]


async def test_header_values_are_unquoted_and_decoded_once(bench: Bench) -> None:
    headers = HEADERS | {"ce-subject": '"a \\"b\\" %2525"', "ce-note": "%D0%91%20%22", "ce-plain": "50%2B"}
    status, _ = await answered(bench, HELD, headers)

    assert status == 202
    found = from_headers(bench.log.of("events.reservation")[0].headers)
    assert (found["subject"], found["note"], found["plain"]) == ('a "b" %25', 'Б "', "50+")


@pytest.mark.parametrize(
    ("change", "header"),
    [
        ({"ce-specversion": "0.3"}, "ce-specversion"),
        ({"ce-id": ""}, "ce-id"),
        ({"ce-id": "%0A"}, "ce-id"),
        ({"ce-subject": "%FF"}, "ce-subject"),
        ({"ce-subject": "%C3%28"}, "ce-subject"),
        ({"ce-time": "yesterday"}, "ce-time"),
        ({"ce-type": "nothing.known"}, "ce-type"),
        ({"ce-tenant": "a/b"}, "ce-tenant"),
        ({"ce-datacontenttype": "application/json"}, "ce-datacontenttype"),
        ({"ce-data": "{}"}, "ce-data"),
        ({"ce-data_base64": "AA"}, "ce-data_base64"),
        ({"ce-dataschema": "/x"}, "ce-dataschema"),
        ({"ce-no_name": "x"}, "ce-no_name"),
        ({"ce-note": "a%0Ab"}, "ce-note"),
        ({"ce-source": None}, "ce-source"),
        ({"ce-tenant": None}, "ce-tenant"),
        ({"ce-subject": None}, "ce-subject"),
    ],
)
async def test_a_header_that_does_not_fit_is_named(bench: Bench, change: dict[str, str | None], header: str) -> None:
    headers = {name: value for name, value in (HEADERS | change).items() if value is not None}
    status, found = await answered(bench, HELD, headers)

    assert status == 400
    assert [error.get("header") for error in found["errors"]] == [header]
    assert bench.log.messages == []


async def test_in_binary_mode_the_body_is_the_data(bench: Bench) -> None:
    status, found = await answered(bench, HELD | {"quantity": 0}, HEADERS)

    assert (status, [error["pointer"] for error in found["errors"]]) == (400, ["/quantity"])


async def test_of_a_mixed_batch_each_record_is_told_what_became_of_it(bench: Bench) -> None:
    events = [
        EVENT,
        EVENT | {"id": "e-2", "subject": "r-2", "type": "nothing.known"},
        EVENT | {"id": "e-3", "subject": "r-3", "data": HELD | {"quantity": 0}},
        EVENT | {"id": "e-4", "subject": "r-4", "tenant": None},
        7,
        EVENT | {"id": "e-6"},
    ]
    status, found = await answered(bench, events, BATCH)

    assert (status, found["accepted"], found["refused"]) == (207, 2, 4)
    assert [each["status"] for each in found["results"]] == [202, 400, 400, 400, 400, 202]
    pointers = [[e["pointer"] for e in each["problem"]["errors"]] for each in found["results"] if "problem" in each]
    assert pointers == [["/1/type"], ["/2/data/quantity"], ["/3/tenant"], ["/4"]]
    assert [from_headers(record.headers)["id"] for record in bench.log.messages] == ["e-1", "e-6"]


async def test_behind_a_refused_record_its_key_goes_no_further(bench: Bench) -> None:
    events = [
        EVENT,
        EVENT | {"id": "bad", "data": {}},
        EVENT | {"id": "behind"},
        EVENT | {"id": "other", "subject": "r-2"},
        EVENT | {"id": "also-behind", "subject": "x", "partitionkey": "r-1"},
    ]
    status, found = await answered(bench, events, BATCH)

    assert (status, [each["status"] for each in found["results"]]) == (207, [202, 400, 424, 202, 424])
    assert found["results"][2]["problem"]["type"].endswith("/behind-a-refused-one")
    assert [from_headers(record.headers)["id"] for record in bench.log.messages] == ["e-1", "other"]


async def test_a_record_the_broker_refuses_is_told_with_its_reason(bench: Bench) -> None:
    bench.log.faults["events.reservation"] = RecordRefusedError("too large")
    status, found = await answered(bench, [EVENT], BATCH)

    assert (status, [each["status"] for each in found["results"]]) == (207, [413])


async def test_a_batch_of_which_nothing_could_be_stored_is_a_503(bench: Bench) -> None:
    bench.log.faults["events.reservation"] = TransientError("away")
    status, found = await answered(bench, [EVENT, EVENT], BATCH)

    assert (status, found["title"]) == (503, "Not available for now")


async def test_an_empty_batch_is_accepted_and_one_of_1001_is_not(bench: Bench) -> None:
    assert (await answered(bench, [], BATCH))[0] == 202
    assert (await answered(bench, [1] * 1_001, BATCH))[0] == 413
    assert (await answered(bench, {}, BATCH))[0] == 400


text = st.text(max_size=30)
names = st.one_of(st.sampled_from([*HEADERS]), st.from_regex(r"ce-[a-zA-Z0-9_.!-]{0,12}", fullmatch=True))
values = st.one_of(
    text.map(lambda each: quote(each, safe="")),
    st.from_regex(r"[ -~]{0,40}", fullmatch=True),
    st.from_regex(r'"?(%[0-9A-Fa-f]{2}|%|\\|[ -~]){0,20}"?', fullmatch=True),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
fields = st.one_of(st.sampled_from([*EVENT]), text)
records = st.one_of(json_values, st.dictionaries(fields, json_values, max_size=5).map(lambda change: EVENT | change))
requests = st.tuples(st.dictionaries(names, values, max_size=4), st.one_of(st.just(HELD), json_values))
# Many requests to one server: its start takes longer than all of them.
fuzz = settings(max_examples=20)


@fuzz
@given(sent=st.lists(requests, min_size=1, max_size=12))
async def test_no_headers_make_an_error_of_ours(sent: list[tuple[dict[str, str], Any]]) -> None:
    async with Bench().client() as client:
        for change, body in sent:
            headers = HEADERS | {name: value.strip() for name, value in change.items()}
            async with client.post("/api/v1/events", data=json.dumps(body).encode(), headers=headers) as response:
                found = await response.text()
            assert response.status in {202, 400, 403, 413, 415}, found
            assert "Traceback" not in found


@fuzz
@given(sent=st.lists(st.lists(records, max_size=4), min_size=1, max_size=6))
async def test_no_batch_makes_an_error_of_ours(sent: list[list[Any]]) -> None:
    async with Bench().client() as client:
        for events in sent:
            async with client.post("/api/v1/events", data=json.dumps(events).encode(), headers=BATCH) as response:
                found = await response.json()
            assert response.status in {202, 207}, found
            assert [each["status"] in {202, 400, 403, 413, 424} for each in found["results"]] == [True] * len(events)
            assert "Traceback" not in str(found)
