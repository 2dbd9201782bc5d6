"""Taking things in on real servers: kills, floods of twins, a Redis that forgets or is away."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector
from sqlalchemy import text

from schemas.catalogue import contracts
from streams.adapters import redis, sql
from streams.adapters.effects import SqlEffects
from streams.adapters.idempotency import RedisRequests
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.app.gateway import gateway
from streams.app.worker import worker
from streams.catalogue import load_catalogue
from streams.core import headers as h
from streams.dev import ports
from streams.dev.stack import Stack
from streams.job import Done
from streams.ports import Claim, Found, Intent, RequestState, TopicPartition
from streams.topics import wanted
from tests.eventually import eventually
from tests.gateway_doubles import EVENT, JOB, PAYLOAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streams.job import Group
    from streams.settings import Settings

IN_FLIGHT = 1_000
JSON = {"Content-Type": "application/json"}
AGED = text("""
    UPDATE effects SET started_at = started_at - CAST(CAST(:age AS text) AS interval),
        updated_at = updated_at - CAST(CAST(:age AS text) AS interval)
    WHERE group_name = :group AND key = :key
""")


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan(wanted(load_catalogue(settings), contracts(), 1)))
    return settings.model_copy(update={"gateway_port": ports.any_free()})


@asynccontextmanager
async def served(settings: Settings, **more: Any) -> AsyncIterator[ClientSession]:
    async with (
        gateway(settings.model_copy(update=more)) as url,
        ClientSession(url, connector=TCPConnector(limit=0)) as client,
    ):
        yield client


class Effects:
    """Counts the runs of sign-in jobs, by id; one of them may fail first."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def adapt(self, group: Group) -> Group:
        """The group with this for its handler."""

        async def handle(_payload: Any, ctx: Any) -> Done:
            self.made[ctx.id] += 1
            return Done({"run": self.made[ctx.id]})

        works = {name: replace(work, handler=handle, once=None, batch=None) for name, work in group.works.items()}
        return replace(group, works=works) if group.name == "emails" else group


async def posted(client: ClientSession, body: Any, key: str, path: str = "/api/v1/jobs") -> tuple[int, Any, bool]:
    async with client.post(path, json=body, headers={"Idempotency-Key": key}) as response:
        return response.status, await response.json(content_type=None), "Idempotency-Replayed" in response.headers


def job(user: str, **more: Any) -> dict[str, Any]:
    return JOB | {"payload": PAYLOAD | {"user_id": user}} | more


async def stored(settings: Settings, place: dict[str, Any]) -> Any:
    reader, tp = KafkaLogReader(client_options(settings)), TopicPartition(place["topic"], place["partition"])
    (found,) = [one async for batch in reader.read({tp: place["offset"]}, {tp: place["offset"] + 1}) for one in batch]
    return found


async def all_stored(settings: Settings, topic: str) -> dict[tuple[int, int], str | None]:
    """The ids of a topic's records, by their places."""
    reader = KafkaLogReader(client_options(settings))
    starts, ends = await reader.starts([topic]), await reader.ends([topic])
    return {
        (record.partition, record.offset): h.text(record.headers, "ce_id")
        async for batch in reader.read(starts, ends)
        for record in batch
    }


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway in a process of its own."""
    assert settings.database_url is not None
    environment = os.environ | {
        "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
        "KEYLANE_REDIS_URL": str(settings.redis_url),
        "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
        "KEYLANE_LOG_LEVEL": "warning",
    }
    words = ["-c", "from streams.cli import main; main()", "gateway", "--port", str(settings.gateway_port)]
    child = await asyncio.create_subprocess_exec(sys.executable, *words, env=environment)
    try:
        async with ClientSession(f"http://127.0.0.1:{settings.gateway_port}") as client:

            async def serves() -> bool:
                assert child.returncode is None
                try:
                    async with client.get("/health/ready") as response:
                        return response.status == 200
                except ClientError:
                    return False

            await eventually(serves, within=30)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_a_gateway_killed_with_a_thousand_requests_in_flight_breaks_no_promise(
    ready: Settings, unique: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = unique("kill")
    users = [f"{run}-{number}" for number in range(IN_FLIGHT)]
    accepted: dict[str, Any] = {}
    url = f"http://127.0.0.1:{ready.gateway_port}"

    async def tried(client: ClientSession, user: str) -> None:
        try:
            status, body, _ = await posted(client, job(user), user)
        except (ClientError, OSError):
            return
        assert status == 202, body
        accepted[user] = body

    async with process(ready) as child, ClientSession(url, connector=TCPConnector(limit=0)) as client:
        trying = asyncio.gather(*(tried(client, user) for user in users))

        async def enough() -> bool:
            return len(accepted) >= IN_FLIGHT // 5

        await eventually(enough, within=60)
        child.send_signal(signal.SIGKILL)
        await trying
    before = dict(accepted)
    assert len(before) < IN_FLIGHT, "killed too late to prove anything"
    ids = await all_stored(ready, "jobs.emails")
    assert {user: ids.get((body["partition"], body["offset"])) for user, body in before.items()} == {
        user: body["id"] for user, body in before.items()
    }

    async with served(ready) as client:

        async def repeated(user: str) -> None:
            async def taken() -> bool:
                status, body, _ = await posted(client, job(user), user)
                assert status in {202, 409}, body
                accepted[user] = body
                return status == 202

            await eventually(taken, within=60)

        await asyncio.gather(*(repeated(user) for user in users))
        assert all(accepted[user]["id"] == body["id"] for user, body in before.items())
        effects, wanted_ids = Effects(), {body["id"] for body in accepted.values()}
        async with worker(ready, ["emails"], adapt=effects.adapt):

            async def all_done() -> bool:
                return wanted_ids <= set(effects.made)

            await eventually(all_done, within=60)
    twins = Counter((await all_stored(ready, "jobs.emails")).values())
    twice = sum(twins[each] > 1 for each in wanted_ids)
    with capsys.disabled():
        print(f"\n{len(before)} of {IN_FLIGHT} accepted before the kill; {twice} stored twice, each run once")
    assert len(wanted_ids) == IN_FLIGHT
    assert {effects.made[each] for each in wanted_ids} == {1}


async def test_with_redis_flushed_in_between_a_repeated_request_is_one_effect(
    ready: Settings, unique: Callable[[str], str]
) -> None:
    user, effects = unique("user"), Effects()
    assert ready.redis_url
    cache = redis.connect(ready.redis_url)
    async with served(ready) as client, worker(ready, ["emails"], adapt=effects.adapt) as (running, _):
        one = await posted(client, job(user), user)
        await cache.flushall()
        two = await posted(client, job(user), user)
        async with client.post("/api/v1/jobs?wait=30", json=job(user), headers={"Idempotency-Key": user}) as response:
            three = await response.json()
        last = await posted(client, job(user), unique("another"))

        async def done() -> bool:
            return last[1]["id"] in effects.made

        await eventually(done)
        shown = running.metrics.text().decode()
    await cache.aclose()

    assert [(status, replayed) for status, _, replayed in (one, two)] == [(202, False), (202, False)]
    assert one[1]["id"] == two[1]["id"] == three["id"]
    assert one[1]["offset"] != two[1]["offset"], "it is in the log twice"
    assert (response.status, three["status"], three["result"]) == (200, "completed", {"run": 1})
    assert effects.made[one[1]["id"]] == 1
    recognised = re.search(r'keylane_requests_recognised_total\{group="emails"\} (\S+)', shown)
    assert recognised
    assert float(recognised[1]) >= 1


async def test_a_hundred_twins_at_once_are_one_job(ready: Settings, unique: Callable[[str], str]) -> None:
    user = unique("user")
    async with served(ready) as one, served(ready, gateway_port=ports.any_free()) as other:
        found = await asyncio.gather(*(posted((one, other)[n % 2], job(user), user) for n in range(100)))
        again = await posted(one, job(user), user)
        async with one.get("/api/v1/idempotency/stats") as response:
            counted = await response.json()

    told = Counter(status for status, _, _ in found)
    assert set(told) <= {202, 409}
    assert sum(status == 202 and not replayed for status, _, replayed in found) == 1
    assert (again[0], again[2]) == (202, True)
    ids = Counter((await all_stored(ready, "jobs.emails")).values())
    assert ids[again[1]["id"]] == 1
    assert counted["in_flight"] >= told[409]
    assert counted["keep_seconds"] == 172_800


async def test_the_mark_of_a_gateway_that_died_ends_by_itself(ready: Settings, unique: Callable[[str], str]) -> None:
    assert ready.redis_url
    cache, key = redis.connect(ready.redis_url), unique("key")
    requests = RedisRequests(cache)
    assert await requests.begin(key, "f", "dead", 0.2) == Found(RequestState.NEW)
    assert await requests.begin(key, "f", "dead", 0.2) == Found(RequestState.NEW), "its own retry"
    busy = await requests.begin(key, "f", "me", 5)
    assert (busy.state, 0 < busy.left <= 0.2) == (RequestState.IN_FLIGHT, True)
    assert (await requests.begin(key, "other", "me", 5)).state is RequestState.REUSED

    async def mine() -> bool:
        return (await requests.begin(key, "f", "me", 5)).state is RequestState.NEW

    await eventually(mine)
    await requests.finish(key, "f", "dead", "late", 60)
    await requests.release(key, "dead")
    assert (await requests.begin(key, "f", "third", 5)).state is RequestState.IN_FLIGHT
    await requests.finish(key, "f", "me", "answer", 60)
    assert await requests.begin(key, "f", "third", 5) == Found(RequestState.REPLAYED, "answer")
    assert 59 < await cache.pttl(f"keylane:request:{key}") / 1000 <= 60
    await cache.aclose()


async def test_without_redis_requests_are_accepted_and_still_one_effect(
    settings: Settings, ready: Settings, unique: Callable[[str], str], tmp_path: Path
) -> None:
    port, user, effects = ports.any_free(), unique("user"), Effects()
    stack = Stack(tmp_path, parts=("redis",), asked={"redis": port})
    await stack.astart()
    own = ready.model_copy(update={"redis_url": stack.addresses.redis_url})
    async with served(own) as client, worker(ready, ["emails"], adapt=effects.adapt):
        first = await posted(client, job(user), user)
        await stack.astop()
        started = time.perf_counter()
        again = [await posted(client, job(user), user) for _ in range(3)]
        assert time.perf_counter() - started < 6
        await stack.astart()

        async def remembered() -> bool:
            return (await posted(client, job(user), user))[2]

        await eventually(remembered)
        last = await posted(client, job(user), unique("another"))

        async def done() -> bool:
            return last[1]["id"] in effects.made

        await eventually(done)
    await stack.astop()

    assert {(status, body["id"]) for status, body, _ in (first, *again)} == {(202, first[1]["id"])}
    assert effects.made[first[1]["id"]] == 1


async def test_a_job_that_is_waited_for_is_answered_with_its_end(ready: Settings, unique: Callable[[str], str]) -> None:
    effects = Effects()
    async with served(ready) as client, worker(ready, ["emails"], adapt=effects.adapt):

        async def ended(number: int) -> tuple[int, str]:
            async with client.post("/api/v1/jobs?wait=30", json=job(f"{unique('user')}-{number}")) as response:
                return response.status, (await response.json())["status"]

        found = await asyncio.gather(*map(ended, range(50)))
    assert set(found) == {(200, "completed")}


async def test_what_a_group_finished_under_keys_is_forgotten_in_time(
    ready: Settings, unique: Callable[[str], str]
) -> None:
    assert ready.database_url
    engine = sql.connect(ready.database_url.get_secret_value())
    await sql.migrate(engine)
    ledger, group = SqlEffects(engine), unique("group")
    for key, age in (("request/old", "49 hours"), ("request/new", "1 hour")):
        standing = await ledger.begin(Intent(group, key, "d", "w", 0, None))
        await ledger.finish(Claim(group, key, standing.token), "null")
        async with engine.begin() as connection:
            await connection.execute(AGED, {"age": age, "group": group, "key": key})
    await ledger.forget(48 * 3600.0)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT key FROM effects WHERE group_name = :group"), {"group": group})
        assert [row.key for row in found] == ["request/new"]
    await engine.dispose()


async def test_events_may_be_acknowledged_by_the_leader_alone(ready: Settings, unique: Callable[[str], str]) -> None:
    async with served(ready, event_acks="leader") as client:
        batch = [
            {
                "specversion": "1.0",
                "id": f"e-{number}",
                "source": "/s",
                "type": EVENT["type"],
                "tenant": "steppe",
                "subject": unique("r"),
                "data": EVENT["data"],
            }
            for number in range(100)
        ]
        async with client.post("/api/v1/events", json=EVENT | {"key": unique("r")}) as response:
            accepted = await response.json()
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        async with client.post("/api/v1/events", json=batch, headers=headers) as response:
            many = await response.json()
        async with client.post("/api/v1/jobs", json=JOB) as response:
            assert response.status == 202

    assert accepted["acks"] == "leader"
    assert h.text((await stored(ready, accepted)).headers, "ce_id") == accepted["id"]
    assert many["accepted"] == 100
    assert h.text((await stored(ready, many["results"][99])).headers, "ce_id") == "e-99"


async def test_a_batch_keeps_the_order_of_each_key_in_the_log(ready: Settings, unique: Callable[[str], str]) -> None:
    run = unique("batch")
    jobs = [job(f"{run}-{number % 7}", id=f"{run}.{number}") for number in range(1_000)]
    async with served(ready) as client:
        packed = gzip.compress(json.dumps({"jobs": jobs}).encode())
        headers = JSON | {"Content-Encoding": "gzip", "Idempotency-Key": run}
        async with client.post("/api/v1/jobs:batch", data=packed, headers=headers) as response:
            found = await response.json()
            assert (response.status, found["accepted"]) == (202, 1_000)
        async with client.post("/api/v1/jobs:batch", data=packed, headers=headers) as response:
            assert response.headers["Idempotency-Replayed"] == "true"
            assert await response.json() == found

    places = {(each["partition"], each["offset"]): each["id"] for each in found["results"]}
    ids = await all_stored(ready, "jobs.emails")
    assert {place: ids[place] for place in places} == places
    for user in range(7):
        offsets = [each["offset"] for number, each in enumerate(found["results"]) if number % 7 == user]
        assert offsets == sorted(offsets)


async def test_the_look_up_of_a_key_is_shown(
    ready: Settings, unique: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ready.redis_url
    cache, run, taken = redis.connect(ready.redis_url), unique("run"), []
    requests = RedisRequests(cache)

    async def looks(client: int) -> None:
        for number in range(250):
            started = time.perf_counter()
            await requests.begin(f"{run}-{client}-{number % 50}", "f", str(number), 60)
            taken.append(time.perf_counter() - started)

    await asyncio.gather(*map(looks, range(8)))
    await cache.aclose()
    cut = [round(each * 1000, 2) for each in quantiles(taken, n=20)]
    assert len(taken) == 2_000
    with capsys.disabled():
        print(f"\nlook-up of an Idempotency-Key, 8 at once: P50 {cut[9]} ms, P95 {cut[18]} ms")
