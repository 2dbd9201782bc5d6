from __future__ import annotations

from typing import Any

import pytest

from streams.core import headers as h
from streams.deadletters import operation as operation_module
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.job import TransientError
from tests.eventually import eventually
from tests.gateway_doubles import Bench
from tests.unit.test_deadletters import FAMILY, Broker, Desk, die
from tests.unit.test_gateway_joblist import As
from tests.unit.test_gateway_jobs import problem, stored_status


class Mortuary(Bench):
    """A gateway over a broker in memory that holds dead letters; nothing in it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.desk = Desk(self.broker)
        self.changes = {
            "letters": DeadLetters(self.broker, [FAMILY], max_replays=3, window=7),
            "operations": self.operations,
        }

    def operations(self, caller: str) -> Operations:
        letters: DeadLetters = self.changes["letters"]
        return Operations(letters, self.broker, self.desk.operations._clock, by=f"{caller}@bench:1")

    def bind(self, tenant: str) -> None:
        self.changes["access"] = As(tenant)


@pytest.fixture
def bench() -> Mortuary:
    return Mortuary()


async def answer(response: Any, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def refs(response: Any) -> list[str]:
    return [entry["ref"] for entry in (await answer(response))["entries"]]


async def ended(client: Any, location: str) -> Any:
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        found.update(await answer(await client.get(location)))
        return found["status"] != "running"

    await eventually(has_ended)
    return found


async def test_dead_letters_are_listed_page_by_page_whatever_dies_meanwhile(bench: Mortuary) -> None:
    died = [die(bench.broker, f"steppe/{n}", n, partition=n % 2) for n in range(25)]
    found, cursor = [], ""
    async with bench.client() as client:
        while cursor is not None:
            params = {"limit": "4", "group": "emails"} | ({"cursor": cursor} if cursor else {})
            response = await client.get("/api/v1/dlt", params=params)
            found += await refs(response)
            cursor = (await response.json())["cursor"]
            die(bench.broker, "steppe/late", 100 + len(found))

    assert sorted(found) == sorted(died)
    for partition in ("0", "1"):
        assert [ref for ref in found if ref.split("/")[1] == partition] == [
            ref for ref in died[::-1] if ref.split("/")[1] == partition
        ]


async def test_a_page_ends_where_a_partition_stands_although_clocks_went_back(bench: Mortuary) -> None:
    died = []
    for n in range(6):
        died.append(die(bench.broker, f"steppe/{n}", n))
        bench.broker.now -= 5
    found, cursor = [], ""
    async with bench.client() as client:
        while cursor is not None:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            response = await client.get("/api/v1/dlt", params=params)
            found += await refs(response)
            cursor = (await response.json())["cursor"]

    assert found == died[::-1]


async def test_of_two_copies_on_both_sides_of_a_page_only_the_later_is_listed(bench: Mortuary) -> None:
    die(bench.broker, "steppe/a", 1)
    later = [die(bench.broker, "steppe/a", 1), die(bench.broker, "steppe/b", 2)]
    async with bench.client() as client:
        response = await client.get("/api/v1/dlt", params={"limit": "2"})
        assert await refs(response) == later[::-1]
        assert (await response.json())["cursor"] is None
        response = await client.get("/api/v1/dlt", params={"limit": "1"})
        cursor = (await response.json())["cursor"]
        response = await client.get("/api/v1/dlt", params={"limit": "1", "cursor": cursor})
        assert await refs(response) == later[:1]
        assert (await response.json())["cursor"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"tenant": "taiga"}, [1]),
        ({"key": "a"}, [0, 2]),
        ({"key": "steppe/a", "type": "p.q"}, [2]),
        ({"exception": "BadError"}, [0, 1, 2]),
        ({"state": "parked"}, [3]),
        ({"state": "parked,resolved"}, [3]),
        ({"state": "open,parked", "first": "1", "last": "3"}, [1, 2, 3]),
        ({"group": "other"}, []),
    ],
)
async def test_a_list_is_of_what_was_asked_for(bench: Mortuary, query: dict[str, str], expected: list[int]) -> None:
    died = [
        die(bench.broker, "steppe/a", 1),
        die(bench.broker, "taiga/b", 2),
        die(bench.broker, "steppe/a", 3, type="p.q"),
        die(bench.broker, "steppe/c", 4, replays=3, exception="a.b.OtherError"),
    ]
    async with bench.client() as client:
        assert await refs(await client.get("/api/v1/dlt", params=query)) == [died[n] for n in reversed(expected)]


async def test_a_dead_letter_is_shown_with_its_story(bench: Mortuary) -> None:
    ref = die(bench.broker, "steppe/a", 7)
    async with bench.client() as client:
        await bench.desk.do()
        found = await answer(await client.get(f"/api/v1/dlt/{ref}"))
        await problem(await client.get(f"/api/v1/dlt/{ref}7"), 404, "not-found")
        await problem(await client.get("/api/v1/dlt/jobs.other.other.dlt/0/0"), 404, "not-found")

    assert (found["ref"], found["state"], found["operation"], found["attempts"]) == (ref, "replayed", "replay r-1", 5)
    assert found["payload"] is None
    assert found["raw"].startswith("v7 (")
    assert (found["stack"], found["headers"][h.ORIGIN_OFFSET]) == ("s", "7")
    assert [chapter["state"] for chapter in found["story"]] == ["died", "replay r-1, finished"]


async def test_a_replay_is_a_dry_run_until_it_is_told_not_to_be(bench: Mortuary) -> None:
    die(bench.broker, "steppe/a", 1)
    die(bench.broker, "steppe/b", 2, replays=3)
    async with bench.client() as client:
        found = await answer(await client.post("/api/v1/dlt:replay", json={}))

    assert (found["id"], found["status"], found["entries"]) == (None, "planned", 1)
    assert (found["by_topic"], found["passed_over"]) == ({FAMILY.dlt: 1}, {"parked": 1})
    assert (bench.broker.replays(), bench.audit.acts) == ([], [])


@pytest.mark.parametrize(("kind", "state"), [("replay", "replayed"), ("discard", "discarded")])
async def test_what_is_carried_out_is_written_down_first_and_can_be_looked_at(
    bench: Mortuary, kind: str, state: str
) -> None:
    died = [die(bench.broker, f"steppe/{n}", n) for n in range(3)]
    request = {"dry_run": False, "reason": "repaired", "limit": 2}
    async with bench.client() as client:
        response = await client.post(f"/api/v1/dlt:{kind}", json=request)
        begun = await answer(response, 202)
        location = response.headers["Location"]
        found = await ended(client, location)
        states = await bench.desk.states()
        await problem(
            await client.post(f"/api/v1/dlt:{kind}", json={"resume": begun["id"], "dry_run": False}), 409, "wrong-state"
        )

    assert location == f"/api/v1/dlt/operations/{begun['id']}"
    assert (found["status"], found["entries"], found["done"], found["problem"]) == ("finished", 2, 2, None)
    assert (found["kind"], found["reason"], found["by"]) == (kind, "repaired", "anybody@bench:1")
    assert [states[ref] for ref in died] == [state, state, "open"]
    (act,) = bench.audit.acts
    assert (act.what, act.target, act.before["entries"]) == (f"dlt.{kind}", f"operations/{begun['id']}", 2)
    assert act.after == {"reason": "repaired"}


async def test_single_ones_are_taken_by_their_names(bench: Mortuary) -> None:
    died = [die(bench.broker, f"steppe/{n}", n) for n in range(3)]
    async with bench.client() as client:
        response = await client.post("/api/v1/dlt:replay", json={"refs": [died[1]], "dry_run": False})
        await ended(client, response.headers["Location"])

    assert [record.key for record in bench.broker.replays()] == [b"steppe/1"]


async def test_one_held_behind_another_is_refused_with_the_reason(bench: Mortuary) -> None:
    die(bench.broker, "steppe/a", 1, held=True)
    second = die(bench.broker, "steppe/a", 2, held=True)
    async with bench.client() as client:
        found = await answer(await client.post("/api/v1/dlt:replay", json={"refs": [second], "dry_run": False}))

    assert found["entries"] == 0
    assert [(one["ref"], "died before it" in one["reason"]) for one in found["refused"]] == [(second, True)]
    assert bench.audit.acts == []


async def test_an_operation_that_was_interrupted_is_resumed(bench: Mortuary, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        die(bench.broker, f"steppe/{n}", n)
    publish, fails = bench.broker.send, True

    async def failing(message: Any) -> Any:
        if fails and message.topic == FAMILY.replays:
            raise TransientError("no acknowledgement")
        return await publish(message)

    monkeypatch.setattr(bench.broker, "send", failing)
    monkeypatch.setattr(operation_module, "SILENCE", 0.0)
    async with bench.client() as client:
        response = await client.post("/api/v1/dlt:replay", json={"dry_run": False})
        location = response.headers["Location"]
        stopped = await ended(client, location)
        fails = False
        resume = {"resume": stopped["id"], "dry_run": False, "rate": 0}
        other = {"resume": stopped["id"], "dry_run": False}
        await problem(await client.post("/api/v1/dlt:discard", json=other), 404, "not-found")
        await answer(await client.post("/api/v1/dlt:replay", json=resume), 202)
        found = await ended(client, location)

    assert (stopped["status"], stopped["problem"]) == ("interrupted", "the broker did not acknowledge: resume it")
    assert (found["status"], found["done"]) == ("finished", 3)
    assert sorted(record.key or b"" for record in bench.broker.replays()) == [b"steppe/0", b"steppe/1", b"steppe/2"]
    assert [act.what for act in bench.audit.acts] == ["dlt.replay", "dlt.replay.resume"]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("replay", {"refs": ["x"]}, "/refs/0"),
        ("replay", {"rate": -1}, "/rate"),
        ("replay", {"limit": 0}, "/limit"),
        ("replay", {"limit": 10**30}, "/limit"),
        ("replay", {"dry_run": 0}, "/dry_run"),
        ("replay", {"rate": "5"}, "/rate"),
        ("discard", {"until": 5}, "/until"),
        ("replay", {"everything": True}, "/everything"),
        ("replay", {"resume": "r-1"}, ""),
        ("replay", {"resume": "r-1", "dry_run": False, "tenant": "steppe"}, ""),
        ("discard", {"rate": 1}, "/rate"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_by_its_place(
    bench: Mortuary, path: str, body: dict[str, Any], pointer: str
) -> None:
    async with bench.client() as client:
        found = await problem(await client.post(f"/api/v1/dlt:{path}", json=body), 400, "invalid-request")

    assert [error["pointer"] for error in found["errors"]] == [pointer]


async def test_callers_of_a_tenant_see_and_take_only_their_own(bench: Mortuary) -> None:
    mine, theirs = die(bench.broker, "taiga/a", 1), die(bench.broker, "steppe/a", 2)
    bench.bind("taiga")
    async with bench.client() as client:
        assert await refs(await client.get("/api/v1/dlt")) == [mine]
        await problem(await client.get("/api/v1/dlt", params={"tenant": "steppe"}), 403, "forbidden")
        await problem(await client.get(f"/api/v1/dlt/{theirs}"), 404, "not-found")
        await problem(await client.post("/api/v1/dlt:replay", json={"tenant": "steppe"}), 403, "forbidden")
        planned = await answer(await client.post("/api/v1/dlt:discard", json={"refs": [mine, theirs]}))
        response = await client.post("/api/v1/dlt:discard", json={"dry_run": False})
        await ended(client, response.headers["Location"])
        bench.changes["access"]._caller = As("steppe")._caller
        await problem(await client.get(response.headers["Location"]), 404, "not-found")
        resume = {"resume": response.headers["Location"].rpartition("/")[2], "dry_run": False}
        await problem(await client.post("/api/v1/dlt:discard", json=resume), 404, "not-found")

    assert planned["entries"] == 1
    assert await bench.desk.states() == {mine: "discarded", theirs: "open"}
    assert [act.tenant for act in bench.audit.acts] == ["taiga"]


async def test_an_act_that_cannot_be_written_down_is_not_done(bench: Mortuary) -> None:
    ref = die(bench.broker, "steppe/a", 1)
    bench.audit.away = TransientError("the trail is away")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/dlt:discard", json={"dry_run": False}), 503, "unavailable")

    assert await bench.desk.states() == {ref: "open"}


def dead_job(bench: Bench, **changes: Any) -> None:
    fields = {"status": "dead", "topic": FAMILY.source, "partition": 1, "offset": 7, "time": 1_000_000, **changes}
    bench.history.store(stored_status("j1").model_copy(update=fields))


async def test_a_dead_job_is_retried_by_the_replay_of_its_dead_letter(bench: Mortuary) -> None:
    die(bench.broker, "steppe/user-1", 6, partition=1)
    ref = die(bench.broker, "steppe/user-1", 7, partition=1)
    dead_job(bench)
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs/j1/retry")
        found = await answer(response, 202)
        done = await ended(client, response.headers["Location"])
        states = await bench.desk.states()
        again = await problem(await client.post("/api/v1/jobs/j1/retry"), 409, "wrong-state")

    assert (found["id"], found["status"], done["status"], done["entries"]) == ("j1", "dead", "finished", 1)
    assert states[ref] == "replayed"
    assert len(bench.broker.replays()) == 1
    assert again["detail"] == f"Its dead letter {ref} is replayed."
    assert [act.what for act in bench.audit.acts] == ["dlt.replay"]


async def test_a_job_whose_dead_letter_is_parked_or_gone_is_not_retried(bench: Mortuary) -> None:
    dead_job(bench, replays=3)
    async with bench.client() as client:
        gone = await problem(await client.post("/api/v1/jobs/j1/retry"), 409, "wrong-state")
        die(bench.broker, "steppe/user-1", 7, partition=1, replays=3)
        parked = await problem(await client.post("/api/v1/jobs/j1/retry"), 409, "wrong-state")

    assert "not there" in gone["detail"]
    assert parked["detail"].endswith("is parked.")


@pytest.mark.parametrize("state", ["pending", "processing", "completed", "failed", "cancelled", "retrying"])
async def test_a_job_that_is_not_dead_is_not_retried(bench: Mortuary, state: str) -> None:
    dead_job(bench, status=state, due=1_700_000_000_000 if state == "retrying" else None)
    async with bench.client() as client:
        found = await problem(await client.post("/api/v1/jobs/j1/retry"), 409, "wrong-state")

    assert found["job_status"] == state
    assert found.get("due_at") == ("2023-11-14T22:13:20.000Z" if state == "retrying" else None)
