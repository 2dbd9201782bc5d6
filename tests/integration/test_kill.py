"""kill -9 of a worker in the middle of ten thousand jobs, then a restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from streams.event import Attributes, to_headers
from streams.ports import Message
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry
from tests.integration.kill_child import group_of

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS, KEYS = 10_000, 200


def lines_of(ledger: Path) -> list[tuple[float, str, int]]:
    if not ledger.exists():
        return []
    rows = (line.split() for line in ledger.read_text().splitlines())
    return [(float(at), key, int(number)) for at, key, number in rows]


async def until(enough: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(60):
        while not enough():
            assert child.poll() is None, "the worker ended by itself"
            await asyncio.sleep(0.02)


async def test_every_job_ends_in_order_and_only_the_last_moment_runs_twice(
    settings, unique, create_topics, tmp_path: Path
) -> None:
    kit = Kit(settings, group_of(unique("g"), unique("orders")), MemoryRegistry())
    await create_topics(*kit.family.shelves, partitions=4)
    await publish_all(kit)
    ledger = tmp_path / "effects"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.integration.kill_child", str(settings.kafka_bootstrap_servers)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, kit.group.name, kit.group.source, str(ledger)], cwd=root)

    first = start()
    try:
        await until(lambda: len(lines_of(ledger)) > JOBS // 3, first)
    finally:
        first.kill()
        first.wait()
    before = lines_of(ledger)
    assert len(before) < JOBS, "killed too late to prove anything"
    second = start()
    try:
        await until(lambda: len({number for *_, number in lines_of(ledger)}) == JOBS, second)
    finally:
        second.terminate()
        second.wait()
    check(before, lines_of(ledger))


async def publish_all(kit: Kit) -> None:
    await kit.publisher.start()
    pending = []
    for number in range(JOBS):
        value = await kit.codec.encode(ORDER, ORDER.model(number=number))
        headers = to_headers(Attributes(id=f"o-{number}", type=ORDER.name))
        key = f"t/{number % KEYS}".encode()
        pending.append(await kit.publisher.send(Message(kit.group.source, key, value, headers, number % KEYS % 4)))
    await asyncio.gather(*pending)
    await kit.publisher.stop()


def check(before: list[tuple[float, str, int]], after: list[tuple[float, str, int]]) -> None:
    by_key: dict[str, list[int]] = defaultdict(list)
    for _, key, number in after:
        if number not in by_key[key]:
            by_key[key].append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values()), "first effects are in publish order"

    counts = Counter(number for *_, number in after)
    repeated = {number for number, count in counts.items() if count > 1}
    assert max(counts.values()) <= 2
    killed_at = before[-1][0]
    # A commit is sent every 100 ms and acknowledged some ms later; one more interval for a machine under load.
    last_moment = {number for at, _, number in before if at > killed_at - 1.0}
    assert repeated <= last_moment, "what was committed does not run again"
    oldest = min((at for at, _, number in before if number in repeated), default=killed_at)
    print(
        f"\n{len(before)} effects before the kill, {len(repeated)} of them repeated, "
        f"the oldest {1000 * (killed_at - oldest):.0f} ms old; {len(before) / (killed_at - before[0][0]):.0f} effects/s"
    )
