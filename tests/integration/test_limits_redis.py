from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import uvloop

from streams.adapters.redis import Admission, Once, RedisAwayError, SlidingWindow, Verdict, connect
from streams.dev import ports
from streams.job import TransientError
from tests.eventually import eventually
from tests.self_signed import self_signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from redis.asyncio import Redis

HOUR = 3600.0
TAKEN = Admission(Verdict.TAKEN)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def window(redis: Redis, unique: Callable[[str], str]) -> SlidingWindow:
    return SlidingWindow(redis, name=unique("limit"), limit=3, seconds=HOUR)


@pytest.fixture
def once(redis: Redis, unique: Callable[[str], str]) -> Once:
    return Once(redis, name=unique("once"), lock_seconds=30, mark_seconds=HOUR)


async def test_the_limit_lets_in_so_many_and_tells_the_next_how_long_to_wait(window: SlidingWindow) -> None:
    for job in ("a", "b", "c"):
        assert await window.take("user-1", job) == TAKEN
    refused = await window.take("user-1", "d")
    assert refused.verdict is Verdict.FULL
    assert HOUR - 60 < refused.retry_after <= HOUR
    assert await window.take("user-2", "d") == TAKEN


async def test_a_member_that_comes_again_counts_once(window: SlidingWindow) -> None:
    for _ in range(5):
        assert await window.take("user-1", "a") == TAKEN
    assert await window.reserve("user-1", "a", token="t", seconds=HOUR) == TAKEN
    assert await window.take("user-1", "b") == TAKEN
    assert await window.take("user-1", "c") == TAKEN
    assert (await window.take("user-1", "d")).verdict is Verdict.FULL
    assert await window.take("user-1", "a") == TAKEN


async def test_many_at_once_never_get_more_than_the_limit(window: SlidingWindow) -> None:
    answers = await asyncio.gather(*(window.take("user-1", f"job-{n}") for n in range(100)))
    assert sum(answer.verdict is Verdict.TAKEN for answer in answers) == 3


async def test_the_window_slides(redis: Redis, unique: Callable[[str], str]) -> None:
    window = SlidingWindow(redis, name=unique("limit"), limit=1, seconds=0.3)
    assert await window.take("user-1", "a") == TAKEN
    assert 0 < (await window.take("user-1", "b")).retry_after <= 0.3

    async def free() -> bool:
        return (await window.take("user-1", "b")).verdict is Verdict.TAKEN

    await eventually(free)


async def test_one_place_becomes_free_for_each_member_that_leaves_the_window(
    redis: Redis, unique: Callable[[str], str]
) -> None:
    name = unique("limit")
    window = SlidingWindow(redis, name=name, limit=2, seconds=HOUR)
    for job in ("old", "young"):
        await window.take("user-1", job)
    an_hour_ago = float(await milliseconds(redis)) - HOUR * 1000 - 1
    await redis.zadd(f"keylane:limit:{name}:user-1", {"old": an_hour_ago})
    assert await window.take("user-1", "next") == TAKEN
    assert (await window.take("user-1", "too-many")).verdict is Verdict.FULL


async def test_a_member_counts_from_its_last_time(redis: Redis, unique: Callable[[str], str]) -> None:
    name = unique("limit")
    window = SlidingWindow(redis, name=name, limit=1, seconds=HOUR)
    await window.take("user-1", "a")
    nearly_an_hour_ago = float(await milliseconds(redis)) - HOUR * 1000 + 5_000
    await redis.zadd(f"keylane:limit:{name}:user-1", {"a": nearly_an_hour_ago})
    assert (await window.take("user-1", "b")).retry_after < 6
    await window.take("user-1", "a")
    assert (await window.take("user-1", "b")).retry_after > HOUR - 60


async def milliseconds(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def test_a_known_member_is_a_duplicate_and_not_counted(window: SlidingWindow) -> None:
    assert await window.reserve("user-1", "a", token="first", seconds=HOUR) == TAKEN
    assert (await window.reserve("user-1", "a", token="second", seconds=HOUR)).verdict is Verdict.DUPLICATE
    assert (await window.reserve("user-2", "a", token="second", seconds=HOUR)).verdict is Verdict.DUPLICATE
    for job in ("b", "c", "d"):
        assert await window.take("user-2", job) == TAKEN


async def test_a_reservation_asked_for_again_by_its_owner_is_the_same_reservation(window: SlidingWindow) -> None:
    assert await window.reserve("user-1", "a", token="first", seconds=HOUR) == TAKEN
    assert await window.reserve("user-1", "a", token="first", seconds=HOUR) == TAKEN


async def test_one_of_many_twins_gets_in(window: SlidingWindow) -> None:
    twins = (window.reserve("user-1", "a", token=f"twin-{n}", seconds=HOUR) for n in range(50))
    verdicts = [answer.verdict for answer in await asyncio.gather(*twins)]
    assert verdicts.count(Verdict.TAKEN) == 1
    assert verdicts.count(Verdict.DUPLICATE) == 49


async def test_over_the_limit_nothing_is_marked(window: SlidingWindow) -> None:
    for job in ("a", "b", "c"):
        await window.take("user-1", job)
    assert (await window.reserve("user-1", "d", token="first", seconds=HOUR)).verdict is Verdict.FULL
    assert await window.reserve("user-2", "d", token="second", seconds=HOUR) == TAKEN


async def test_what_is_given_back_is_free_and_unknown_again(window: SlidingWindow) -> None:
    for job in ("a", "b", "c"):
        await window.reserve("user-1", job, token="first", seconds=HOUR)
    await window.give_back("user-1", "c", token="first")
    assert await window.reserve("user-1", "c", token="second", seconds=HOUR) == TAKEN


async def test_a_reservation_nobody_keeps_ends_and_a_kept_one_stays(redis: Redis, unique: Callable[[str], str]) -> None:
    name = unique("limit")
    window = SlidingWindow(redis, name=name, limit=3, seconds=HOUR)
    for job in ("died", "kept", "foreign"):
        await window.reserve("user-1", job, token="first", seconds=0.2)
    await window.keep("kept", token="first", seconds=HOUR)
    await window.keep("foreign", token="second", seconds=HOUR)

    async def over() -> bool:
        return not await redis.exists(f"keylane:known:{name}:died", f"keylane:known:{name}:foreign")

    await eventually(over)
    assert await window.reserve("user-1", "died", token="second", seconds=HOUR) == TAKEN
    assert (await window.reserve("user-1", "kept", token="second", seconds=HOUR)).verdict is Verdict.DUPLICATE


async def test_nobody_gives_back_what_another_reserved(window: SlidingWindow) -> None:
    await window.reserve("user-1", "a", token="first", seconds=HOUR)
    await window.give_back("user-1", "a", token="second")
    assert (await window.reserve("user-1", "a", token="second", seconds=HOUR)).verdict is Verdict.DUPLICATE


async def test_everything_a_limiter_leaves_behind_expires(redis: Redis, unique: Callable[[str], str]) -> None:
    name = unique("limit")
    await SlidingWindow(redis, name=name, limit=3, seconds=HOUR).reserve("user-1", "a", token="t", seconds=HOUR)
    keys = await redis.keys(f"keylane:*:{name}:*")
    assert len(keys) == 2
    assert all([0 < await redis.ttl(key) <= HOUR for key in keys])


async def test_finished_work_is_not_run_again(once: Once) -> None:
    async with once.run("job-1") as run:
        assert run is not None
        await run.finish()
    async with once.run("job-1") as again:
        assert again is None


async def test_work_that_failed_is_run_again_at_once(once: Once) -> None:
    with pytest.raises(ValueError, match="broken"):
        async with once.run("job-1"):
            raise ValueError("broken")
    async with once.run("job-1") as again:
        assert again is not None


async def test_a_cancelled_run_lets_its_lock_go(once: Once) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with once.run("job-1"):
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    async with once.run("job-1") as again:
        assert again is not None


async def test_work_that_runs_elsewhere_waits(once: Once) -> None:
    async with once.run("job-1"):
        with pytest.raises(TransientError, match="another worker"):
            async with once.run("job-1"):
                pytest.fail("two runs at once")
        async with once.run("job-2") as other:
            assert other is not None


async def test_one_of_many_runs_holds_the_lock(once: Once) -> None:
    running, most = 0, 0

    async def work() -> bool:
        nonlocal running, most
        try:
            async with once.run("job-1") as run:
                if run is None:
                    return False
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.01)
                running -= 1
                await run.finish()
                return True
        except TransientError:
            return False

    assert sum(await asyncio.gather(*(work() for _ in range(50)))) == 1
    assert most == 1


async def test_the_lock_of_a_dead_worker_ends_and_its_late_answer_frees_nobody_elses(
    redis: Redis, unique: Callable[[str], str]
) -> None:
    name = unique("once")
    dying = Once(redis, name=name, lock_seconds=0.05, mark_seconds=HOUR)
    living = Once(redis, name=name, lock_seconds=30, mark_seconds=HOUR)
    late = dying.run("job-1")
    assert await late.__aenter__() is not None

    async def lock_over() -> bool:
        return not await redis.exists(f"keylane:lock:{name}:job-1")

    await eventually(lock_over)
    async with living.run("job-1") as run:
        assert run is not None
        await late.__aexit__(None, None, None)
        with pytest.raises(TransientError):
            async with living.run("job-1"):
                pytest.fail("the dead worker's release freed the lock of the living")


async def test_a_redis_that_is_not_there_is_transient_and_says_which_setting() -> None:
    client = connect(f"redis://127.0.0.1:{ports.any_free()}", timeout=0.2)
    with pytest.raises(RedisAwayError, match="KEYLANE_REDIS_URL"):
        await SlidingWindow(client, name="x", limit=1, seconds=1).take("user-1", "a")
    with pytest.raises(TransientError):
        async with Once(client, name="x", lock_seconds=1, mark_seconds=1).run("job-1"):
            pytest.fail("ran without its lock")
    await client.aclose()


async def test_a_redis_that_does_not_answer_is_given_up_in_time() -> None:
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}", timeout=0.1)
    async with asyncio.timeout(10):
        with pytest.raises(RedisAwayError):
            await SlidingWindow(client, name="x", limit=1, seconds=1).take("user-1", "a")
    await client.aclose()
    silent.close()


def test_a_connection_the_server_has_closed_is_opened_again_under_uvloop(redis_url: str) -> None:
    async def ask() -> None:
        async with connect(redis_url) as client:
            await client.ping()
            (connection,) = client.connection_pool._available_connections
            connection._writer.transport.abort()
            assert await client.ping()

    uvloop.run(ask())


async def test_a_cancelled_caller_leaves_no_answer_to_the_next(redis: Redis) -> None:
    narrow = connect(f"redis://{address(redis)}", connections=1)
    await narrow.set("cancelled", "wrong")
    for _ in range(20):
        task = asyncio.create_task(narrow.get("cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await narrow.ping() is True
    await narrow.aclose()


def address(redis: Redis) -> str:
    options = redis.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"


async def test_tls_trusts_the_named_authority_and_no_other(redis: Redis, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    host, port = address(redis).split(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, behind_writer), pump(behind_reader, writer))

    proxy = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=certificate.server)
    url = f"rediss://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    trusting, doubting = connect(url, cafile=certificate.cafile), connect(url, timeout=0.5)
    assert await trusting.ping() is True
    with pytest.raises(RedisAwayError, match=r"(?i)certificate"):
        await SlidingWindow(doubting, name="x", limit=1, seconds=1).take("user-1", "a")
    await trusting.aclose()
    await doubting.aclose()
    proxy.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()
