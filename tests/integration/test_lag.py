"""``keylane lag`` on the real broker: what it counts is what lies there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.integration.test_engine import dead_letters
from tests.integration.test_gaps import drop_below
from tests.integration.test_lane import HERE, KEY, house

if TYPE_CHECKING:
    from tests.integration.test_lane import House

__all__ = ["house"]


async def lag(house: House, *words: str) -> dict[str, Any]:
    """What ``keylane lag`` says of our group."""
    code, out, err = await house.run("lag", "--group", house.kit.group.name, "--every", "0.2", "--json", *words)
    assert code == 0, err
    (found,) = json.loads(out)["groups"]
    return found


async def test_unread_parked_and_dead_records_are_counted_apart(house) -> None:
    done = asyncio.Event()

    async def handle(order, ctx) -> None:
        if ctx.key == KEY:
            raise ValueError("not now")
        done.set()

    made = await house(handle, tiers=(60.0,))
    before = time.time()
    async with made.kit.engine():
        await made.publish(0, 1)
        await made.publish(7, entity="b")
        await done.wait()
    await made.publish(8, 9, 10, entity="b")
    found = await lag(made)
    assert found["lag"] == 3
    assert found["parked"]["1"] == 2
    assert found["due"] == 1, "the follower waits only for the one before it"
    assert before + 60 <= found["next_due"] <= time.time() + 60
    assert before - 1 <= found["oldest"] / 1000 <= time.time()
    assert (found["held_keys"], found["open_dead_letters"], found["gaps"]) == (0, 0, [])
    (here,) = [one for one in found["partitions"] if one["partition"] == HERE]
    assert here["lag"] == 3
    assert here["oldest"] > found["oldest"], "older ones have moved on to the tier"


async def test_held_keys_and_open_dead_letters_are_counted(house) -> None:
    async def handle(order, ctx) -> None:
        raise ValueError("broken")

    made = await house(handle, attempts=1, on_dead="hold")
    async with made.kit.engine():
        await made.publish(0, 1)
        await dead_letters(made.kit, 2)
    found = await lag(made)
    assert (found["lag"], found["held_keys"], found["open_dead_letters"]) == (0, 1, 1), "a follower is no dead letter"
    code, out, _ = await made.run("lag", "--group", made.kit.group.name, "--every", "0.2", "--partitions")
    assert code == 0
    assert made.kit.group.name in out


async def test_a_gap_that_the_group_will_meet_is_shown(house) -> None:
    made = await house(lambda order, ctx: None)
    async with made.kit.engine():
        pass
    for number in range(5):
        await made.kit.publish(number, partition=0)
    await drop_below(made.kit, made.kit.group.source, 3)
    found = await lag(made)
    assert [(gap["topic"], gap["reason"], gap["dropped"]) for gap in found["gaps"]] == [
        (made.kit.group.source, "expired", 3)
    ]
    assert found["lag"] == 2


async def test_a_watched_group_is_told_line_by_line_with_its_rates_until_interrupted(house) -> None:
    made = await house(lambda order, ctx: None)
    process = await made.start("lag", "--group", made.kit.group.name, "--every", "0.2", "--json", "--watch")
    assert process.stdout is not None
    first = json.loads(await process.stdout.readline())
    assert (first["groups"][0]["published_per_second"], first["groups"][0]["finished_per_second"]) == (0, 0)
    async with made.kit.engine():
        await made.publish(*range(40))
        published = finished = 0.0
        async with asyncio.timeout(30):
            while not (published and finished):
                row = json.loads(await process.stdout.readline())["groups"][0]
                published, finished = published + row["published_per_second"], finished + row["finished_per_second"]
    process.send_signal(signal.SIGINT)
    await process.wait()
    assert process.returncode == 0


async def test_a_terminal_shows_the_watched_table_until_interrupted(house) -> None:
    made = await house(lambda order, ctx: None)
    ours, theirs = os.openpty()
    process = await made.start("lag", "--group", made.kit.group.name, "--every", "0.1", "--watch", out=theirs)
    os.close(theirs)
    shown = ""
    while made.kit.group.name not in shown:
        shown += (await asyncio.wait_for(asyncio.to_thread(os.read, ours, 4096), 60)).decode(errors="replace")
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    os.close(ours)


async def test_a_family_without_its_topics_is_named_and_the_others_are_shown(house) -> None:
    made = await house(lambda order, ctx: None)
    code, out, err = await made.run("lag", "--every", "0.2", "--json")
    assert code == 0, err
    history, ours = sorted(json.loads(out)["groups"], key=lambda row: row["group"] != "history")
    assert "lag" in ours
    assert "lag" in history or "keylane topics plan" in history["problem"]
