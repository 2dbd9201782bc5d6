"""The rules of the lanes, one by one, on a core that is driven by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from streams.core import commit_map, headers, moves
from streams.core.commands import (
    CANCELLED,
    NOT_RUN,
    SUCCEEDED,
    Append,
    Blocked,
    Commit,
    DeadLetter,
    Failed,
    Fetch,
    Pause,
    Resume,
    Run,
    Start,
)
from streams.core.group import Core, Limits
from streams.core.headers import Level
from streams.core.retry import RetryPolicy
from streams.core.track import SHELF_SOURCE, parse_moved
from streams.engine.family import Family
from streams.job import Group
from tests.simulation.broker import Broker

TIERS = (2.0, 4.0)
GROUP = Group(name="g", source="s", tiers=TIERS, partitions=1, concurrency=1, works={})


class Bench:
    """One partition on an in-memory broker; every append and commit succeeds at once unless it is held back."""

    def __init__(self, **limits: Any) -> None:
        self.broker = Broker(1, Family(GROUP).topics)
        self.limits = Limits(**{"concurrency": 10, **limits})
        self.now = 100.0
        self.names = 0
        self.restart()

    def restart(self) -> None:
        self.names += 1
        self.core = Core(TIERS, self.limits)
        self.core.assigned(0, {s: self.broker.shelf(0, s) for s in self.broker.shelves}, f"w{self.names}")
        self.positions = {s: self.broker.shelf(0, s).committed for s in self.broker.shelves if s != headers.DLT}
        self.commands: list[Any] = []
        self.started: list[Any] = []
        self.commit()

    def publish(self, *keys: str | None) -> None:
        for key in keys:
            self.broker.append(0, SHELF_SOURCE, key and key.encode(), b"v")

    def turn(self) -> list[str]:
        """Read everything, carry out everything but runs; the names of the runs started."""
        before = len(self.started)
        for _ in range(20):
            for shelf, position in self.positions.items():
                records = self.broker.read(0, shelf, position, 1_000)
                if records:
                    self.positions[shelf] = records[-1].offset + 1
                    self.core.polled(0, shelf, records, self.now)
            self.carry_out()
        return [name(start) for start in self.started[before:]]

    def carry_out(self) -> None:
        for command in self.core.take_commands(self.now):
            self.commands.append(command)
            if isinstance(command, Start):
                self.started += command.runs
            elif isinstance(command, Append | DeadLetter):
                entry = command.entry
                found = headers.replaced(entry.record.headers, moves.way(command, f"w{self.names}"))
                offset = self.broker.append(0, command.level.tier, entry.key, entry.record.value, found)
                self.core.appended(command, offset, self.now)

    def commit(self, *, acknowledged: bool = True) -> Commit | None:
        request = self.core.commit()
        if request is not None:
            if acknowledged:
                self.broker.commits |= request.offsets
            self.core.committed(acknowledged=acknowledged, now=self.now)
        return request

    def end(self, run: str, *results: Any) -> None:
        start = next(s for s in self.started if name(s) == run and s in self.core.running)
        self.core.finished(start, results or [SUCCEEDED] * len(start), self.now)


def name(start: Run) -> str:
    return "+".join(f"{(e.key or b'-').decode()}@{headers.format_level(e.level)}:{e.offset}" for e in start)


def failed(**policy: Any) -> Failed:
    return Failed(RetryPolicy(**{"attempts": 3, **policy}), "failure")


def test_a_key_runs_one_record_at_a_time_and_other_keys_run_beside_it() -> None:
    bench = Bench()
    bench.publish("a", "a", "b", None, None)
    assert bench.turn() == ["a@source:0", "b@source:2", "-@source:3", "-@source:4"]
    bench.end("a@source:0")
    assert bench.turn() == ["a@source:1"]


def test_a_cancelled_record_ends_at_any_level_and_its_key_goes_on_in_order() -> None:
    bench = Bench()
    bench.publish("a", "a", "a")
    bench.turn()
    bench.end("a@source:0", failed())
    bench.turn()
    bench.commit()
    bench.now += 2.5
    bench.core.tick(bench.now)
    assert bench.turn() == ["a@0.0.1:0"]
    bench.end("a@0.0.1:0", CANCELLED)
    assert bench.turn() == ["a@0.0.1:1"]
    bench.end("a@0.0.1:1", CANCELLED)
    assert bench.turn() == ["a@0.0.1:2"]
    bench.end("a@0.0.1:2")
    bench.publish("a")
    assert bench.turn() == ["a@source:3"]
    bench.end("a@source:3", CANCELLED)
    bench.commit()
    assert [bench.broker.commits[0, shelf][0] for shelf in (-1, 1)] == [4, 3]


def test_nothing_runs_before_the_first_commit_is_acknowledged() -> None:
    bench = Bench()
    bench.core = Core(TIERS, bench.limits)
    bench.core.assigned(0, {s: bench.broker.shelf(0, s) for s in bench.broker.shelves}, "late")
    bench.publish("a")
    assert bench.turn() == []
    bench.commit(acknowledged=False)
    assert bench.turn() == []
    bench.commit()
    assert bench.turn() == ["a@source:0"]


def test_a_failed_record_waits_for_its_time_and_for_the_commit_of_where_it_came_from() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", failed())
    bench.now += 2.5
    bench.core.tick(bench.now)
    assert bench.turn() == [], "due, but its move is not committed"
    bench.commit()
    assert bench.turn() == ["a@0.0.1:0"]

    early = Bench()
    early.publish("a")
    early.turn()
    early.end("a@source:0", failed())
    early.turn()
    early.commit()
    assert early.turn() == [], "committed, but not due"
    early.now += 2.5
    early.core.tick(early.now)
    assert early.turn() == ["a@0.0.1:0"]


def test_later_records_of_the_key_follow_into_the_lowest_level_that_holds_it() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", failed())
    bench.publish("a", "b", "a")
    assert bench.turn() == ["b@source:2"]
    assert [record.key for record in bench.broker.logs[0, 1]] == [b"a"] * 3
    assert parse_moved(bench.broker.logs[0, 1][1].headers).due == 0, "a follower is due at once, behind the first"


def test_a_record_with_more_attempts_than_tiers_goes_round_in_laps() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    seen = ["a@source:0"]
    for _ in range(4):
        bench.end(seen[-1], failed(attempts=9))
        bench.turn()
        bench.commit()
        bench.now += 10
        bench.core.tick(bench.now)
        seen += bench.turn()
    assert seen == ["a@source:0", "a@0.0.1:0", "a@0.0.2:0", "a@0.1.1:1", "a@0.1.2:1"]


def test_a_skipped_key_goes_on_only_when_the_dead_letter_is_stored() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1))
    commands = bench.core.take_commands(bench.now)
    assert [type(command) for command in commands] == [DeadLetter], "the next record does not run yet"
    bench.core.appended(commands[0], 0, bench.now)
    assert bench.turn() == ["a@source:1"]


def test_a_held_key_follows_into_the_dead_letters_until_an_operator_frees_it_also_after_a_restart() -> None:
    bench = Bench()
    bench.publish("a", "a", "b")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1, on_dead="hold"))
    bench.turn()
    assert len(bench.broker.logs[0, headers.DLT]) == 2
    bench.commit()
    bench.restart()
    bench.publish("a")
    assert bench.turn() == ["b@source:2"]
    dead = bench.broker.open_dead_letters(0)
    assert len(dead) == 1, "followers are nothing an operator must act on"
    bench.broker.discard(dead[0])
    bench.turn()
    fetch = next(command for command in bench.commands if isinstance(command, Fetch))
    record = bench.broker.read(0, headers.DLT, fetch.offset, 1)[0]
    bench.core.fetched(0, record, bench.now)
    assert bench.turn() == ["a@0.dlt:1"]


def test_what_is_blocked_waits_without_using_up_an_attempt() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    for _ in range(5):
        bench.end("a@source:0", Blocked(1.0))
        assert bench.turn() == []
        bench.now += 1.1
        bench.core.tick(bench.now)
        assert bench.turn() == ["a@source:0"]
    assert bench.started[-1][0].attempts == 0


def test_the_commit_covers_gaps_and_remembers_what_is_finished_above_them() -> None:
    bench = Bench()
    bench.publish("a", "b", "c", "d")
    bench.turn()
    for key, offset in (("b", 1), ("d", 3)):
        bench.end(f"{key}@source:{offset}")
    bench.commit()
    assert bench.broker.commits[0, SHELF_SOURCE][0] == 0
    bench.restart()
    assert bench.turn() == ["a@source:0", "c@source:2"], "b and d do not run again"


def test_a_copy_at_a_lower_level_is_dropped_after_a_crash() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", failed())
    bench.turn()  # moved, but not committed
    bench.restart()
    bench.now += 10
    assert bench.turn() == ["a@0.0.1:0"], "not at the source as well"


def test_what_a_zombie_writes_after_the_take_over_is_passed_over_now_and_after_a_further_crash() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    zombie, start = bench.core, bench.started[-1]
    zombie.finished(start, [failed()], bench.now)
    late = next(c for c in zombie.take_commands(bench.now) if isinstance(c, Append))
    bench.restart()
    entry = late.entry
    bench.broker.append(0, 1, entry.key, b"v", headers.replaced(entry.record.headers, moves.way(late, "w1")))
    assert bench.turn() == ["a@source:0"]
    bench.end("a@source:0")
    bench.commit()
    assert sum(lanes.fenced for lanes in bench.core.partitions.values()) == 1
    bench.positions[1] = 0
    bench.broker.commits[0, 1] = (0, bench.broker.commits[0, 1][1])  # as if the crash came before it was passed over
    bench.restart()
    bench.now += 10
    assert bench.turn() == []


def test_a_full_source_is_left_unread_until_there_is_room() -> None:
    bench = Bench(records=4, concurrency=4)
    bench.publish(*"abcdefgh")
    started = bench.turn()
    assert bench.core.full() == {(0, SHELF_SOURCE)}
    while started:
        bench.end(started.pop(0))
        started += bench.turn()
    assert bench.core.full() == set()
    assert len(bench.started) == 8
    assert not [c for c in bench.commands if isinstance(c, Pause | Resume)], "nothing prefetched is thrown away"


def test_a_full_tier_is_paused_and_resumed_when_half_is_done() -> None:
    bench = Bench(records=4, concurrency=8)
    for key in "abcdefgh":
        bench.publish(key)
        bench.end(bench.turn()[0], failed())
    bench.turn()
    assert [type(c) for c in bench.commands if isinstance(c, Pause | Resume)] == [Pause]
    bench.commit()
    bench.now += 10
    bench.core.tick(bench.now)
    started = bench.turn()
    while started:
        bench.end(started.pop(0))
        bench.commit()
        started += bench.turn()
    assert [type(c) for c in bench.commands if isinstance(c, Pause | Resume)] == [Pause, Resume]


def test_a_source_that_one_key_keeps_full_is_paused_so_that_nothing_of_it_waits_with_the_client() -> None:
    bench = Bench(records=4, concurrency=4)
    bench.publish(*"aaaaaaaaa")
    (row,) = bench.turn()
    bench.now += 0.3
    bench.publish("b")
    bench.turn()
    assert [type(c) for c in bench.commands if isinstance(c, Pause | Resume)] == [Pause]
    assert bench.core.full() == set(), "asked for what is paused, a client forgets what it has of it"
    bench.end(row, *[SUCCEEDED] * 4)
    bench.commit()
    assert run_all(bench)[-1] == "b@source:9"
    assert [type(c) for c in bench.commands if isinstance(c, Pause | Resume)] == [Pause, Resume]


def test_a_full_source_whose_keys_all_wait_alike_is_not_read_and_thrown_away_again_and_again() -> None:
    bench = Bench(records=4, concurrency=4)
    bench.publish(*"abcdefghij")
    started = bench.turn()
    bench.now += 0.3
    bench.end(started.pop(0))
    started += bench.turn()
    assert bench.core.full() == {(0, SHELF_SOURCE)}
    while started:
        bench.end(started.pop(0))
        started += bench.turn()
    assert not [c for c in bench.commands if isinstance(c, Pause | Resume)]
    assert len(bench.started) == 10


def test_results_and_acknowledgements_of_an_ended_ownership_touch_nothing() -> None:
    bench = Bench()
    bench.publish("a", "b")
    bench.turn()
    start = bench.started[0]
    bench.core.revoked()
    bench.core.finished(start, [SUCCEEDED], bench.now)
    assert bench.core.commit() is None
    assert bench.core.take_commands(bench.now) == []


def test_a_batch_takes_records_of_a_key_in_order_and_leaves_those_behind_a_failed_one() -> None:
    bench = Bench(batch=4, linger=1.0)
    bench.publish("a", "a", "b")
    assert bench.turn() == [], "the batch is not full and its time has not come"
    bench.now += 1.0
    assert bench.turn() == ["a@source:0+a@source:1+b@source:2"]
    bench.end("a@source:0+a@source:1+b@source:2", failed(), NOT_RUN, SUCCEEDED)
    bench.turn()
    assert [parse_moved(r.headers).attempts for r in bench.broker.logs[0, 1]] == [1, 0], "failed, then its follower"


def test_a_wait_asked_for_chooses_the_first_tier_that_is_long_enough() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", Failed(RetryPolicy(attempts=5), "failure", after=3.0))
    (move,) = [c for c in bench.core.take_commands(bench.now) if isinstance(c, Append)]
    assert move.level == Level(0, 0, 2)
    assert move.due == pytest.approx(bench.now + 4.0)


def test_a_strangers_record_in_a_tier_runs_like_any_other_and_the_key_waits_for_it() -> None:
    bench = Bench()
    bench.broker.append(0, 1, b"a", b"v")
    bench.turn()
    bench.publish("a")
    bench.turn()
    assert [name(start) for start in bench.started] == ["a@0.0.1:0"]
    bench.end("a@0.0.1:0")
    assert bench.turn() == ["a@source:0"]


def test_when_the_commit_map_is_full_waiting_records_are_moved_out_of_its_way(monkeypatch) -> None:
    monkeypatch.setattr(commit_map, "LIMIT", 80)
    bench = Bench(concurrency=1_000)
    keys = [f"k{n}" for n in range(80)]
    bench.publish(*keys)
    bench.turn()
    for number, key in enumerate(keys):
        bench.end(f"{key}@source:{number}", SUCCEEDED if number % 2 else Blocked(60.0))
    for _ in range(6):  # what does not fit moves once a commit tells what lies before it
        bench.commit()
        bench.turn()
    assert len(bench.broker.logs[0, 1]) == 40, "every waiting record went into the first tier"
    assert all(parse_moved(record.headers).due > bench.now for record in bench.broker.logs[0, 1]), "due when they were"
    bench.commit()
    assert bench.broker.commits[0, SHELF_SOURCE][0] == 80
    bench.restart()
    assert bench.turn() == [], "nothing that was done runs again"
    bench.now += 61
    bench.core.tick(bench.now)
    assert len(bench.turn()) == 40


def run_all(bench: Bench) -> list[str]:
    """Turn, end what was started and commit until nothing is left; the names of the runs."""
    began = []
    while found := bench.turn():
        began += found
        for run in found:
            bench.end(run)
        bench.commit()
    return began


def test_a_key_that_cannot_keep_up_makes_room_for_the_others_and_keeps_its_order() -> None:
    bench = Bench(records=8)
    bench.publish(*"a" * 12, "b")
    (row,) = bench.turn()
    bench.now += 0.3
    bench.end(row, SUCCEEDED, *[NOT_RUN] * 7)
    bench.turn()
    bench.commit()  # of what a has done: a crash would repeat it behind what has left
    assert bench.turn() == ["b@source:12"], "the eight that were held of a have left the window"
    bench.end("b@source:12")
    bench.commit()
    bench.publish("a")
    assert "+".join(run_all(bench)) == "+".join(f"a@0.0.1:{n}" for n in range(12))
    bench.publish("a")
    assert run_all(bench) == ["a@source:14"]


def test_a_key_that_cannot_keep_up_makes_room_before_the_window_is_full() -> None:
    bench = Bench(records=20)
    bench.publish(*"a" * 12)
    (row,) = bench.turn()
    bench.now += 0.3
    bench.end(row, SUCCEEDED, *[NOT_RUN] * 11)
    bench.turn()
    bench.commit()
    bench.turn()
    assert len(bench.broker.logs[0, 1]) == 11, "all that waited of it has left"
    assert bench.core.full() == set(), "nothing had to wait for that"
    bench.commit()
    assert "+".join(run_all(bench)) == "+".join(f"a@0.0.1:{n}" for n in range(11))


def test_a_key_with_many_records_leaves_a_level_step_by_step_and_in_order() -> None:
    bench = Bench(leaving=30)
    bench.publish(*"a" * 200)
    (row,) = bench.turn()
    bench.end(row, failed(), *[NOT_RUN] * 15)
    steps = []
    while moves_of_it := [c for c in bench.core.take_commands(bench.now) if isinstance(c, Append)]:
        steps.append([move.entry.offset for move in moves_of_it])
        for move in moves_of_it:
            bench.core.appended(move, move.entry.offset, bench.now)
    assert max(len(step) for step in steps) == 30
    assert [offset for step in steps for offset in step] == list(range(200))


def test_a_full_window_that_is_read_through_quickly_moves_nothing() -> None:
    bench = Bench(records=8)
    bench.publish(*"a" * 100)
    while found := bench.turn():
        bench.now += 0.05
        bench.end(*found)
    assert not [command for command in bench.commands if isinstance(command, Append)]
    assert bench.broker.logs[0, SHELF_SOURCE][-1].offset < bench.positions[SHELF_SOURCE]


def test_of_a_key_with_many_records_a_run_takes_a_row_in_order() -> None:
    bench = Bench()
    bench.publish(*"a" * 20, "b", "b")
    row, other = bench.turn()
    assert row == "+".join(f"a@source:{n}" for n in range(16))
    assert other == "b@source:20"
    bench.end(row, *[SUCCEEDED] * 3, *[NOT_RUN] * 13)
    assert bench.turn() == ["+".join(f"a@source:{n}" for n in range(3, 19))]


def test_a_slow_window_that_many_keys_share_moves_nothing() -> None:
    bench = Bench(records=8, concurrency=1)
    bench.publish(*"abcdabcdabcd")
    bench.turn()
    bench.now += 10
    bench.end("a@source:0")
    assert bench.turn() == ["b@source:1"]
    assert not [command for command in bench.commands if isinstance(command, Append)]


def test_bytes_bound_what_is_admitted_and_one_record_always_fits() -> None:
    bench = Bench(bytes=40)
    for number in range(6):
        bench.broker.append(0, SHELF_SOURCE, f"k{number}".encode(), b"x" * 30)
    assert bench.turn() == ["k0@source:0"], "half of the bytes are the sources', and one record is above that"
    bench.end("k0@source:0")
    assert bench.turn() == ["k1@source:1"]


def test_a_dead_letter_is_known_after_a_crash_although_only_its_bookmark_was_stored() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1))
    bench.turn()
    request = bench.core.commit()
    assert request is not None
    dlt = (0, headers.DLT)
    bench.broker.commits |= {place: at for place, at in request.offsets.items() if place == dlt}  # the rest was refused
    bench.restart()
    assert bench.turn() == ["a@source:1"]


def store_only(bench: Bench, *shelves: int) -> None:
    """A commit is stored for these topics and refused for the others; then the worker crashes."""
    request = bench.core.commit()
    assert request is not None
    bench.broker.commits |= {place: at for place, at in request.offsets.items() if place[1] in shelves}
    bench.restart()


def held(bench: Bench) -> None:
    """A record of ``a`` is dead and holds its key; another one waits behind it."""
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1, on_dead="hold"))
    bench.turn()
    bench.commit()
    bench.commit()


def test_a_discard_is_remembered_after_a_crash_although_only_its_own_topic_was_committed() -> None:
    bench = Bench()
    held(bench)
    bench.broker.discard(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    store_only(bench, 0)
    bench.turn()
    assert Fetch(0, 1) in bench.commands, "the key is free: its follower is next"


def test_a_replayed_record_runs_once_a_commit_says_that_its_dead_letter_is_free() -> None:
    bench = Bench()
    held(bench)
    bench.broker.replay(bench.broker.logs[0, headers.DLT][0])
    assert bench.turn() == [], "a crash would hold the key again behind what was done"
    bench.commit()
    assert bench.turn() == ["a@1.0.0:0"]


def test_an_operator_may_act_on_the_dead_letter_of_a_worker_that_was_replaced() -> None:
    bench = Bench()
    way = {headers.LEVEL: "0.dlt", headers.FROM: "source@7", headers.MOVER: "zombie", headers.HOLD: headers.HELD}
    bench.broker.append(0, headers.DLT, b"a", b"v", headers.replaced((), way))
    bench.broker.discard(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    bench.commit()
    bench.commit()
    assert bench.broker.commits[0, 0][0] == 1, "the replay topic is not kept from going on"


def dead_a_moment_ago(bench: Bench) -> None:
    """A record of ``a`` is dead and holds its key, another one waits behind it; no commit tells of them yet."""
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1, on_dead="hold"))
    bench.turn()


def test_a_discard_is_committed_only_after_the_commit_that_frees_its_dead_letter() -> None:
    bench = Bench()
    dead_a_moment_ago(bench)
    bench.broker.discard(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    bench.commit()  # of where the dead letter came from: only the next one can say that it is free
    store_only(bench, 0)
    bench.turn()
    assert Fetch(0, 1) in bench.commands, "the key is free: its follower is next"


def test_what_followed_a_dead_letter_runs_once_a_commit_covers_where_it_came_from() -> None:
    bench = Bench()
    dead_a_moment_ago(bench)
    bench.broker.discard(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    bench.core.fetched(0, bench.broker.logs[0, headers.DLT][1], bench.now)
    assert bench.turn() == [], "no commit could say that it is done"
    bench.commit()
    assert bench.turn() == ["a@0.dlt:1"]
    bench.end("a@0.dlt:1")
    bench.commit()
    bench.restart()
    bench.turn()
    assert not [c for c in bench.commands if isinstance(c, Fetch)], "what is done and committed is not run again"


def test_a_replay_of_a_replaced_workers_dead_letter_does_not_wait_for_one_of_our_own() -> None:
    bench = Bench()
    bench.publish("a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1))
    (ours,) = [c for c in bench.core.take_commands(bench.now) if isinstance(c, DeadLetter)]
    way = {headers.LEVEL: "0.dlt", headers.FROM: "source@7", headers.MOVER: "zombie"}
    for _ in range(2):
        bench.broker.append(0, headers.DLT, b"a", b"v", headers.replaced((), way))
    bench.broker.replay(bench.broker.logs[0, headers.DLT][1])
    assert bench.turn() == [], "the key waits for its dead letter to be stored"
    bench.core.appended(ours, 0, bench.now)
    assert bench.turn() == ["a@1.0.0:0"]


def test_a_failed_record_moves_once_a_commit_covers_what_its_key_did_before() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0")
    bench.turn()
    bench.end("a@source:1", failed())
    bench.turn()
    assert not bench.broker.logs[0, 1], "a crash would repeat the first record behind this one"
    crashed = copy.deepcopy(bench)
    crashed.restart()
    assert crashed.turn() == ["a@source:0"], "what is repeated is repeated in order"
    bench.commit()
    bench.turn()
    assert len(bench.broker.logs[0, 1]) == 1


def test_a_dead_letter_and_what_follows_a_replay_wait_for_that_commit_too() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1))
    bench.turn()
    bench.commit()
    bench.end("a@source:1")
    bench.publish("a")
    bench.broker.replay(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    assert len(bench.broker.logs[0, 0]) == 1, "the third record has not followed yet"
    bench.commit()
    bench.turn()
    assert len(bench.broker.logs[0, 0]) == 2


def test_what_waited_behind_a_dead_letter_moves_once_a_commit_covers_what_ran_there_before() -> None:
    bench = Bench()
    held(bench)
    bench.publish("a")
    bench.turn()
    bench.broker.discard(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    bench.commit()
    for offset in (1, 2):
        bench.core.fetched(0, bench.broker.logs[0, headers.DLT][offset], bench.now)
        assert bench.turn() == [f"a@0.dlt:{offset}"]
        bench.end(f"a@0.dlt:{offset}", SUCCEEDED if offset == 1 else failed())
        bench.turn()
    assert not bench.broker.logs[0, 1], "a crash would repeat the one behind the other"
    bench.commit()
    bench.turn()
    assert len(bench.broker.logs[0, 1]) == 1


def test_a_moved_record_follows_only_once_a_commit_covers_where_it_came_from() -> None:
    bench = Bench()
    bench.publish("a", "a")
    bench.turn()
    bench.end("a@source:0", failed(attempts=1))
    bench.turn()
    bench.commit()
    bench.end("a@source:1", failed())
    (move,) = [c for c in bench.core.take_commands(bench.now) if isinstance(c, Append)]
    stored = headers.replaced((), moves.way(move, f"w{bench.names}"))
    offset = bench.broker.append(0, 1, b"a", b"v", stored)  # and the acknowledgement is late
    bench.broker.replay(bench.broker.logs[0, headers.DLT][0])
    bench.turn()
    assert len(bench.broker.logs[0, 0]) == 1, "done further up, a crash would bring it back in the source"
    bench.core.appended(move, offset, bench.now)
    bench.commit()
    bench.turn()
    assert len(bench.broker.logs[0, 0]) == 2
