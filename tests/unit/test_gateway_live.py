from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiohttp import WSMsgType

from streams.gateway import lines, live
from streams.gateway.peers import Origins
from streams.job import TransientError
from streams.live.feed import Feed
from streams.live.reading import Reading
from streams.live.rewind import Rewind
from tests.gateway_doubles import EVENT, TOPICS
from tests.unit.test_gateway_joblist import As
from tests.unit.test_gateway_jobs import problem
from tests.unit.test_live_feed import Live, status

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientWebSocketResponse


class Sent(NamedTuple):
    event: str
    id: str
    data: Any


@pytest.fixture
def bench() -> Live:
    return Live()


async def read(response: ClientResponse) -> Sent:
    """The next event, or id without one."""
    fields = {"event": "", "id": "", "data": "null"}
    async with asyncio.timeout(5):
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if not text:
                break
            name, _, value = text.partition(": ")
            fields[name] = value
        else:
            raise EOFError
    return Sent(fields["event"], fields["id"], json.loads(fields["data"]))


async def said(socket: ClientWebSocketResponse) -> dict[str, Any]:
    found: dict[str, Any] = await socket.receive_json(timeout=5)
    return found


async def test_a_stream_tells_of_a_job_as_it_goes_on(bench: Live) -> None:
    async with bench.client() as client, client.get("/api/v1/stream", params={"job": "j1"}) as response:
        began = await read(response)
        await bench.happens(status("other"))
        await bench.happens(status(state="retrying", error="boom", due=1_700_000_000_500))
        found = await read(response)

    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert response.headers["Cache-Control"] == "no-store"
    assert (began.event, began.id, began.data) == ("", "events.reservation:0;job-status:0", None)
    assert (found.event, found.id) == ("job", "events.reservation:0;job-status:2")
    assert found.data == {
        "id": "j1",
        "type": "notification.signin",
        "queue": "emails",
        "tenant": "steppe",
        "key": "steppe/user-1",
        "status": "retrying",
        "attempt": 1,
        "replays": 0,
        "result": None,
        "error": "boom",
        "worker": None,
        "time": "2023-11-14T22:13:20.000Z",
        "due_at": "2023-11-14T22:13:20.500Z",
    }


async def test_a_socket_tells_of_events(bench: Live) -> None:
    async with bench.client() as client, client.ws_connect("/api/v1/ws?tenant=steppe&key=r-1") as socket:
        began = await said(socket)
        await client.post("/api/v1/events", json=EVENT | {"tenant": "taiga"})
        await client.post("/api/v1/events", json=EVENT | {"id": "e-2"})
        found = await said(socket)

    assert began == {"kind": "beat", "id": "events.reservation:0;job-status:0"}
    assert (found["kind"], found["data"]["id"], found["data"]["key"]) == ("event", "e-2", "steppe/r-1")
    assert (found["data"]["type"], found["data"]["data"]["resource_id"]) == ("reservation.held", "room-1")


async def test_who_comes_back_with_the_last_id_to_another_gateway_has_missed_nothing(bench: Live) -> None:
    async with bench.client() as client, client.get("/api/v1/stream") as response:
        await read(response)
        await bench.happens(status("j1"))
        last = (await read(response)).id
    for number in (2, 3):
        await bench.happens(status(f"j{number}"))
        await bench.held(entity=f"r-{number}")
    async with bench.client() as client, client.get("/api/v1/stream", headers={"Last-Event-ID": last}) as response:
        missed = [await read(response) for _ in range(4)]
        began = await read(response)
        await bench.happens(status("j4"))
        after = await read(response)
    async with bench.client() as client, client.ws_connect(f"/api/v1/ws?last_event_id={missed[0].id}") as socket:
        again = [await said(socket) for _ in range(4)]

    assert sorted(name(one.event, one.data) for one in missed) == ["j2", "j3", "steppe/r-2", "steppe/r-3"]
    assert (began.data, began.id) == (None, "events.reservation:2;job-status:3")
    assert after.data["id"] == "j4"
    told = [name(missed[0].event, missed[0].data), *(name(one["kind"], one["data"]) for one in again)]
    assert sorted(told) == ["j2", "j3", "j4", "steppe/r-2", "steppe/r-3"]


def name(kind: str, data: Any) -> str:
    return str(data["id"] if kind == "job" else data["key"])


@pytest.mark.parametrize(
    ("last", "most"),
    [("events.reservation:0;job-status:0", 2), ("events.reservation:0;job-status:9", 100)],
)
async def test_what_cannot_be_told_any_more_is_called_a_gap_and_the_stream_goes_on(
    bench: Live, last: str, most: int
) -> None:
    for number in range(3):
        await bench.happens(status(f"j{number}"))
    bench.changes = {"rewind": Rewind(bench.log, Reading(bench.codec, bench.metrics), most=most)}
    async with bench.client() as client, client.get("/api/v1/stream", params={"last_event_id": last}) as response:
        gap = await read(response)
        await read(response)
        await bench.happens(status("j4"))
        found = await read(response)

    assert (gap.event, "load what you show anew" in gap.data["reason"]) == ("gap", True)
    assert found.data["id"] == "j4"


async def test_what_the_log_has_deleted_is_called_a_gap(bench: Live) -> None:
    for number in range(3):
        await bench.happens(status(f"j{number}"))
    bench.log.begins = {"job-status": 2}
    last = "events.reservation:0;job-status:1"
    async with bench.client() as client, client.ws_connect(f"/api/v1/ws?last_event_id={last}") as socket:
        assert (await said(socket))["kind"] == "gap"


async def test_thousands_who_come_back_at_once_cost_a_few_passes_over_the_log(bench: Live) -> None:
    for number in range(3):
        await bench.happens(status(f"j{number}"))
    rewind = Rewind(bench.log, Reading(bench.codec, bench.metrics))
    end = await bench.log.ends(TOPICS)
    begin = dict.fromkeys(end, 0)
    interests = [live.Interest(job=f"j{number % 4}") for number in range(2_000)]
    found = await asyncio.gather(*(rewind.between(interest, begin, end) for interest in interests))

    assert [len(notices) for notices in found[:4]] == [1, 1, 1, 0]
    assert all(len(notices) == (number % 4 != 3) for number, notices in enumerate(found))
    assert bench.log.passes <= 2


async def test_too_much_for_one_reader_is_a_gap_and_trouble_is_told_to_each(bench: Live) -> None:
    for number in range(3):
        await bench.happens(status(f"j{number}"))
    reading, end = Reading(bench.codec, bench.metrics), await bench.log.ends(TOPICS)
    begin = dict.fromkeys(end, 0)
    with pytest.raises(live.GapError):
        await Rewind(bench.log, reading, room=2).between(live.Interest(), begin, end)
    bench.log.unreadable = TransientError("away")
    with pytest.raises(TransientError):
        await Rewind(bench.log, reading).between(live.Interest(), begin, end)


async def test_silence_is_broken_by_the_id_to_read_on_behind(bench: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEAT", 0.01)
    async with bench.client() as client, client.get("/api/v1/stream", params={"job": "j1"}) as response:
        await bench.happens(status("other"))
        async with asyncio.timeout(5):
            while (beat := await read(response)).id != "events.reservation:0;job-status:1":
                assert beat.data is None


async def test_a_reader_that_is_too_slow_is_dropped_with_the_reason(bench: Live) -> None:
    feed = Feed(bench.log, bench.log, Reading(bench.codec, bench.metrics), TOPICS, bench.metrics, room=0)
    bench.changes = {"feed": feed}
    async with (
        bench.client() as client,
        client.get("/api/v1/stream") as response,
        client.ws_connect("/api/v1/ws") as ws,
    ):
        await read(response)
        await said(ws)
        await bench.happens(status())
        dropped = await read(response)
        closed = await ws.receive(timeout=5)
        with pytest.raises(EOFError):
            await read(response)

    assert (dropped.event, "too slow" in dropped.data["reason"]) == ("dropped", True)
    assert (closed.type, ws.close_code) == (WSMsgType.CLOSE, 1013)
    assert "too slow" in closed.extra


async def test_a_client_that_takes_nothing_is_cut_off(bench: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PATIENCE", 0.2)
    async with bench.client() as client:
        response = await client.get("/api/v1/stream")
        response.connection.transport.pause_reading()  # type: ignore[union-attr]
        async with asyncio.timeout(20):
            while b'dropped_total{reason="stuck"} 1.0' not in bench.metrics.text():
                await bench.happens(status(error="x" * 90_000))
        response.close()


async def test_a_gateway_that_stops_lets_its_listeners_go(bench: Live) -> None:
    async with bench.client() as client:
        response = await client.get("/api/v1/stream")
        await read(response)
        await client.server.close()
        dropped = await read(response)

    assert (dropped.event, "stops" in dropped.data["reason"]) == ("dropped", True)


async def test_a_line_that_is_old_has_to_be_opened_anew(bench: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "RENEW_AFTER", -1.0)
    async with bench.client() as client, client.get("/api/v1/stream") as response:
        await read(response)
        await bench.happens(status())
        told, dropped = await read(response), await read(response)

    assert (told.event, dropped.event, "15 minutes" in dropped.data["reason"]) == ("job", "dropped", True)


async def test_so_many_may_listen_and_no_more(bench: Live) -> None:
    feed = Feed(bench.log, bench.log, Reading(bench.codec, bench.metrics), TOPICS, bench.metrics, most=1)
    bench.changes = {"feed": feed}
    async with bench.client() as client, client.get("/api/v1/stream") as response:
        await read(response)
        found = await client.get("/api/v1/ws", headers=WS)
        await problem(found, 503, "overloaded")


async def test_a_caller_of_a_tenant_hears_of_its_own_only(bench: Live) -> None:
    bench.changes = {"access": As("taiga")}
    async with bench.client() as client, client.get("/api/v1/stream") as response:
        await read(response)
        await bench.happens(status("theirs"))
        await bench.held(tenant="steppe")
        await bench.happens(status("mine", tenant="taiga", key="taiga/user-1"))
        found = await read(response)
        await problem(await client.get("/api/v1/stream", params={"tenant": "steppe"}), 403, "forbidden")
        async with client.get("/api/v1/stream", headers={"Last-Event-ID": began}) as again:
            before = await read(again)

    assert (found.data["id"], before.data["id"]) == ("mine", "mine")


WS = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "x" * 22 + "==",
}
began = "events.reservation:0;job-status:0"


@pytest.mark.parametrize(
    ("path", "headers", "status", "kind"),
    [
        ("stream?last_event_id=x", {}, 400, "invalid-request"),
        ("stream", {"Last-Event-ID": "job-status:1;"}, 400, "invalid-request"),
        ("stream?queue=emails", {}, 400, "invalid-request"),
        ("stream?tenant=a/b", {}, 400, "invalid-request"),
        ("ws", {}, 426, "upgrade-required"),
        ("ws", {**WS, "Origin": "https://evil.example"}, 403, "forbidden"),
        ("stream?ticket=t9", {}, 401, "unauthenticated"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_told(
    bench: Live, path: str, headers: dict[str, str], status: int, kind: str
) -> None:
    async with bench.client() as client:
        await problem(await client.get(f"/api/v1/{path}", headers=headers), status, kind)


async def test_a_page_of_an_origin_that_is_named_may_open_a_socket(bench: Live) -> None:
    bench.changes = {"origins": Origins(["https://console.example"])}
    async with bench.client() as client:
        async with client.ws_connect("/api/v1/ws", headers={"Origin": "https://console.example"}) as socket:
            assert (await said(socket))["kind"] == "beat"
        refused = await client.get("/api/v1/ws", headers={**WS, "Origin": "https://evil.example"})
        await problem(refused, 403, "forbidden")


async def test_a_ticket_lets_its_holder_listen_once_and_nothing_else(bench: Live) -> None:
    bench.changes = {"access": As("taiga")}
    async with bench.client() as client:
        made = await client.post("/api/v1/stream-tickets")
        ticket = (await made.json())["ticket"]
        bench.changes["access"]._caller = None
        headers = {"Origin": "https://shop.example"}
        async with client.ws_connect(f"/api/v1/ws?ticket={ticket}", headers=headers) as socket:
            await said(socket)
            await bench.happens(status("theirs"))
            await bench.happens(status("mine", tenant="taiga", key="taiga/user-1"))
            found = await said(socket)
        await problem(await client.get("/api/v1/stream", params={"ticket": ticket}), 401, "unauthenticated")

    assert (made.status, found["data"]["id"]) == (201, "mine")


async def test_without_redis_there_are_no_tickets(bench: Live) -> None:
    bench.tickets.away = TransientError("away")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/stream-tickets"), 503, "unavailable")
