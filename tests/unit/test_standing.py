"""Where keys and groups stand, told from the structures of the core."""

from __future__ import annotations

from streams.core import headers
from streams.core.commands import Blocked
from streams.core.group import Core
from streams.core.headers import Level, dlt_level
from streams.core.restore import restore
from streams.core.standing import AtLevel, Figures, InMemory, at_levels, figures, in_memory
from streams.core.track import SHELF_SOURCE
from tests.unit.test_lane_rules import TIERS, Bench, failed


def published(bench: Bench, key: str, at: float) -> None:
    """Publish a record at a time, in seconds."""
    bench.publish(key)
    log = bench.broker.logs[0, SHELF_SOURCE]
    log[-1] = log[-1]._replace(timestamp=int(at * 1000))


def levels(bench: Bench, key: bytes) -> tuple[AtLevel, ...]:
    shelves = {shelf: bench.broker.shelf(0, shelf) for shelf in bench.broker.shelves}
    return at_levels(restore(0, TIERS, "", shelves), shelves, key)


def test_an_empty_group_has_nothing_of_anything() -> None:
    nothing = Figures(running=0, waiting=0, parked=0, due=0, oldest=None, held_keys=0, paused=0, fenced=0)
    assert figures(Core(TIERS, Bench().limits), {}, 0.0) == nothing


def test_running_waiting_and_the_oldest_are_those_of_the_source() -> None:
    bench = Bench(concurrency=1)
    published(bench, "a", 50.0)
    published(bench, "b", 60.0)
    published(bench, "a", 70.0)
    bench.turn()
    found = figures(bench.core, {}, bench.now)
    assert (found.running, found.waiting, found.oldest) == (1, 2, 50_000)
    bench.end("a@source:0")
    assert figures(bench.core, {}, bench.now).oldest == 60_000


def test_parked_records_are_due_when_their_time_has_come_and_as_old_as_when_they_were_published() -> None:
    bench = Bench()
    published(bench, "a", 50.0)
    published(bench, "a", 60.0)
    bench.turn()
    bench.end("a@source:0", failed())
    bench.turn()
    found = figures(bench.core, {}, bench.now)
    assert (found.parked, found.due, found.oldest) == (2, 1, 50_000), "the follower is due at once"
    assert figures(bench.core, {}, bench.now + TIERS[0]).due == 2


def test_parked_records_that_were_not_read_yet_count_and_finished_ones_do_not() -> None:
    bench = Bench()
    bench.publish("a", "b")
    bench.turn()
    for name in ("a@source:0", "b@source:1"):
        bench.end(name, failed())
    bench.carry_out()  # appended, not read
    bench.commit()
    assert figures(bench.core, {(0, 1): 2}, bench.now).parked == 2
    bench.now += TIERS[0]
    bench.turn()
    bench.core.tick(bench.now)
    bench.turn()
    bench.end("a@0.0.1:0")
    assert figures(bench.core, {(0, 1): 2}, bench.now).parked == 1


def test_held_keys_are_counted_once_each() -> None:
    bench = Bench()
    bench.publish("a", "a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1, on_dead="hold"))
    bench.turn()
    assert figures(bench.core, {}, bench.now).held_keys == 1


def test_a_key_in_a_tier_is_told_with_its_due_time_and_followers() -> None:
    bench = Bench()
    bench.publish("a", "a", "a", "b")
    bench.turn()
    bench.end("a@source:0", failed())
    bench.turn()
    bench.commit()
    assert levels(bench, b"a") == (AtLevel(Level(0, 0, 1), 1, 0, bench.now + TIERS[0], 1, 3),)
    assert levels(bench, b"b") == ()


def test_a_held_key_has_its_dead_letter_in_front_of_its_followers() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1, on_dead="hold"))
    bench.turn()
    bench.commit()
    assert levels(bench, b"a") == (AtLevel(dlt_level(0), headers.DLT, 0, 0.0, 1, 2),)


def test_a_replayed_dead_letter_stands_above_those_that_wait_behind_it() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1, on_dead="hold"))
    bench.turn()
    bench.commit()
    (dead,) = bench.broker.open_dead_letters(0)
    bench.broker.replay(dead)
    first, second = levels(bench, b"a")
    assert (first.level, first.records) == (Level(1, 0, 0), 1)
    assert (second.level, second.offset, second.records) == (dlt_level(0), 1, 1)


def test_the_owner_tells_what_runs_and_what_waits_behind_it() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    assert in_memory(bench.core, 0, b"a") == InMemory(running=1, waiting=1)
    assert in_memory(bench.core, 0, b"nobody") == InMemory()
    assert in_memory(bench.core, 1, b"a") is None, "somebody else's partition"


def test_the_owner_tells_until_when_a_key_waits_in_place() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", Blocked(5.0))
    bench.turn()
    assert in_memory(bench.core, 0, b"a") == InMemory(waiting=1, due=bench.now + 5.0)


def test_the_owner_tells_what_is_being_moved_and_what_waits_for_a_commit() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", failed())
    bench.core.take_commands(bench.now)
    found = in_memory(bench.core, 0, b"a")
    assert found is not None
    assert found.writing == 1
    other = Bench()
    other.publish("a")
    other.turn()
    other.end("a@source:0", failed())
    other.turn()
    other.now += TIERS[0]
    other.core.tick(other.now)
    other.turn()
    found = in_memory(other.core, 0, b"a")
    assert found is not None
    assert (found.waiting, found.awaits_commit) == (1, True)
