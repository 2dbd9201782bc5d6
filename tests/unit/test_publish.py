from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ConfigDict

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.contract import Contract
from schemas.errors import RegistryUnavailableError
from streams.core.jsonfeed import Value
from streams.envelope import UnpublishableError
from streams.event import from_headers
from streams.job import Job, TransientError
from streams.ports import Position
from streams.publishing import Bad, Checker, Publication, RecordEncoder, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.ports import Message


class Note(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    text: str


AVSC = '{"type":"record","namespace":"keylane.note","name":"%s","fields":[{"name":"text","type":"string"}]}'
EVENT = Contract(name="note.written", kind="event", model=Note, schemas=(AVSC % "Written",))
JOB = Contract(name="note.print", kind="job", model=Note, schemas=(AVSC % "Print",))
LOST = Contract(name="note.lost", kind="job", model=Note, schemas=(AVSC % "Lost",))
INTERNAL = Contract(name="note.inner", kind="internal", model=Note, schemas=(AVSC % "Inner",))
ALL = (EVENT, JOB, LOST, INTERNAL)
PRINT = Job(contract=JOB, queue="printers", key=lambda note: f"by-{note.text}", handler=lambda *_: None)


class Shelf:
    """A registry in memory."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.away = False

    async def register(self, subject: str, schema: str) -> int:
        del subject
        if self.away:
            raise RegistryUnavailableError("away")
        self.texts.append(schema)
        return len(self.texts)

    lookup = register

    async def schema(self, schema_id: int) -> str:
        return self.texts[schema_id - 1]

    async def close(self) -> None:
        """Nothing is open."""


def encoder(shelf: Shelf | None = None) -> RecordEncoder:
    return RecordEncoder(Codec(shelf or Shelf(), ALL), Checker(ALL, [PRINT]), lambda: "new-id")


def plain(**changes: Any) -> dict[str, Any]:
    value = {"type": "note.written", "tenant": "acme", "entity": "n-1", "data": {"text": "hi"}, **changes}
    return {name: found for name, found in value.items() if found is not None}


def cloud(**changes: Any) -> dict[str, Any]:
    value = {"specversion": "1.0", "id": "7", "source": "/shop", "subject": "n-1", **plain(entity=None), **changes}
    return {name: found for name, found in value.items() if found is not None}


async def test_an_event_goes_to_its_domains_topic_under_its_key() -> None:
    codec = Codec(Shelf(), ALL)
    message = await RecordEncoder(codec, Checker(ALL, [PRINT]), lambda: "new-id").encode(plain())
    assert (message.topic, message.key, message.partition) == ("events.note", b"acme/n-1", None)
    assert from_headers(message.headers) == {
        "specversion": "1.0",
        "id": "new-id",
        "type": "note.written",
        "source": "/keylane",
        "tenant": "acme",
    }
    await codec.load(message.value or b"")
    payload = codec.decode_now(message.value or b"")
    assert payload is not None
    assert payload.model == Note(text="hi")


async def test_a_job_goes_to_its_queue_and_its_payload_gives_the_key_where_none_is_named() -> None:
    named = await encoder().encode(plain(type="note.print", key="k", entity=None, id="mine"))
    unnamed = await encoder().encode(plain(type="note.print", entity=None))
    assert (named.topic, named.key, from_headers(named.headers)["id"]) == ("jobs.printers", b"acme/k", "mine")
    assert unnamed.key == b"acme/by-hi"


async def test_a_cloud_event_keeps_its_attributes_and_extensions() -> None:
    message = await encoder().encode(cloud(time="2026-01-01T00:00:00Z", retries=3, urgent=True, traceparent="00-a"))
    assert message.key == b"acme/n-1"
    found = from_headers(message.headers)
    assert found == {
        "specversion": "1.0",
        "id": "7",
        "type": "note.written",
        "source": "/shop",
        "subject": "n-1",
        "time": "2026-01-01T00:00:00Z",
        "tenant": "acme",
        "retries": "3",
        "urgent": "true",
        "traceparent": "00-a",
    }


@pytest.mark.parametrize("partition_key", ["other", "acme/other"])
async def test_a_cloud_events_partition_key_names_the_entity(partition_key: str) -> None:
    assert (await encoder().encode(cloud(partitionkey=partition_key))).key == b"acme/other"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "must be a JSON object"),
        (plain(tenant=None), "/tenant: Field required"),
        (plain(colour="red"), "/colour: Extra inputs are not permitted"),
        (plain(type="note.burnt"), "/type: there is no event or job 'note.burnt'"),
        (plain(type="note.inner"), "/type: there is no event or job 'note.inner'"),
        (plain(type="note.lost"), "/type: no queue takes jobs of type 'note.lost'"),
        (plain(data={"text": 1}), "note.written: /text: Input should be a valid string"),
        (plain(data={"text": "\ud800"}), "note.written: "),
        (plain(entity=None), "note.written: an event needs an entity"),
        (plain(key="k"), "/key: name the entity once"),
        (plain(tenant="a/b"), "tenant must be a non-empty name without '/'"),
        (cloud(specversion="0.3"), "/specversion: Input should be '1.0'"),
        (cloud(id=None), "/id: Field required"),
        (cloud(subject=None), "note.written: an event needs an entity"),
        (cloud(datacontenttype="text/xml"), "/datacontenttype: String should match pattern"),
        (cloud(data_base64="aGk="), "/data_base64: "),
        (cloud(extra=[1]), "/extra"),
    ],
)
async def test_what_cannot_be_published_is_refused_with_its_place(value: Any, problem: str) -> None:
    with pytest.raises(UnpublishableError) as refused:
        await encoder().encode(value)
    assert str(refused.value).startswith(problem)


async def test_an_unreachable_registry_is_not_the_values_fault() -> None:
    shelf = Shelf()
    shelf.away = True
    with pytest.raises(RegistryUnavailableError):
        await encoder(shelf).encode(plain())


class Press:
    """A publisher that acknowledges when told, or fails from one record on."""

    def __init__(self, fails_from: int | None = None) -> None:
        self.sent: list[Message] = []
        self.most_open = 0
        self.open = 0
        self._fails_from = fails_from

    async def publish(self, message: Message) -> Position:
        return await (await self.send(message))

    async def send(self, message: Message) -> asyncio.Future[Position]:
        self.sent.append(message)
        number, loop = len(self.sent) - 1, asyncio.get_running_loop()
        answer: asyncio.Future[Position] = loop.create_future()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        loop.call_later(0.001, self._answer, answer, number)
        return answer

    def _answer(self, answer: asyncio.Future[Position], number: int) -> None:
        self.open -= 1
        if self._fails_from is not None and number >= self._fails_from:
            answer.set_exception(TransientError("no acknowledgement"))
        else:
            answer.set_result(Position("t", 0, number))


async def values(*found: Any) -> AsyncIterator[Value]:
    for line, value in enumerate(found, start=1):
        yield value if isinstance(value, Value) else Value(line, value)


def publication(press: Press, *, skip_bad: bool = False) -> tuple[Publication, list[Bad]]:
    bad: list[Bad] = []
    return Publication(encoder(), press, skip_bad=skip_bad, on_bad=bad.append), bad


async def test_records_leave_in_order_with_a_bounded_number_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.publishing.IN_FLIGHT", 50)
    press = Press()
    run, bad = publication(press)
    assert await run.run(values(*(plain(entity=str(n)) for n in range(500)))) == Report(500, 0)
    assert [message.key for message in press.sent] == [b"acme/%d" % n for n in range(500)]
    assert press.most_open <= 51
    assert bad == []


async def test_the_first_bad_value_stops_and_nothing_behind_it_is_sent() -> None:
    press = Press()
    run, bad = publication(press)
    report = await run.run(values(plain(), plain(), plain(data={}), plain()))
    assert report == Report(2, 1, Bad(3, "note.written: /text: Field required"))
    assert bad == [report.stopped_at]
    assert len(press.sent) == 2


async def test_bad_values_can_be_passed_over() -> None:
    press = Press()
    run, bad = publication(press, skip_bad=True)
    assert await run.run(values(plain(), Value(2, problem="not JSON"), plain())) == Report(2, 1)
    assert bad == [Bad(2, "not JSON")]


async def test_a_missing_acknowledgement_stops_with_the_number_that_arrived() -> None:
    run, _ = publication(Press(fails_from=3))
    with pytest.raises(TransientError):
        await run.run(values(*(plain() for _ in range(6))))
    assert run.published == 3


def test_every_contract_of_this_deployment_can_be_encoded() -> None:
    RecordEncoder(Codec(Shelf(), contracts()), Checker(contracts(), []), lambda: "x")
