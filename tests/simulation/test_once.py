"""Effects of handlers marked ``once`` stay single in every world, and planted bugs are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streams.core.effects import Step, begun
from streams.engine import once
from streams.engine.fence import PATIENCE, Fence
from tests.effect_doubles import MemoryLedger
from tests.simulation.once_world import SETTLE, BrokenPromiseError, play

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = 1_000
MOST = 2_000  # worlds until a planted bug must be found
WAYS = [(asks, confirms) for asks in (True, False) for confirms in (True, False)]


@pytest.mark.parametrize(("asks", "confirms"), WAYS)
def test_the_effect_happens_once_and_the_record_ends(asks: bool, confirms: bool) -> None:
    worlds = [play(seed, asks=asks, confirms=confirms) for seed in range(SEEDS)]
    assert {world.effects for world in worlds} == {1} if asks else {0, 1}
    assert sum(len(world.ended) for world in worlds) > 3 * SEEDS, "owners came and went"


def never_mind_who_holds_the_token(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryLedger, "_held", lambda self, claim: self.rows[claim.key])


def take_over_without_a_new_token(patch: pytest.MonkeyPatch) -> None:
    begin = MemoryLedger._begun

    def begun_with_the_old_token(self: MemoryLedger, intent: Any) -> Any:
        self._tokens = 0
        return begin(self, intent)

    patch.setattr(MemoryLedger, "_begun", begun_with_the_old_token)


def believe_a_confirmation_however_old_it_is(patch: pytest.MonkeyPatch) -> None:
    async def confirm(self: Fence) -> None:
        if not await self._means.ledger.arm(self.claim, self._reach, self._replays):
            raise self.fenced("confirm")
        self.sent = True

    patch.setattr(Fence, "confirm", confirm)


def start_a_handler_however_long_ago_it_began(patch: pytest.MonkeyPatch) -> None:
    run = once._Guarded._run

    def at_once(self: Any, fence: Any, payload: Any, context: Any, *, armed: bool) -> Any:
        return run(self, fence, payload, context, armed=True)

    patch.setattr(once._Guarded, "_run", at_once)


def believe_that_nothing_was_done_before_it_has_settled(patch: pytest.MonkeyPatch) -> None:
    def answered(standing: Any, answer: str, *, replays: int) -> Step:
        return {"done": Step.FINISH, "not-done": Step.RUN}.get(answer, Step.GIVE_UP)

    patch.setattr(once, "answered", answered)


def forget_that_a_run_may_take_as_long_as_its_time_out(patch: pytest.MonkeyPatch) -> None:
    made = once._Guarded.__init__

    def without(self: Any, *given: Any) -> None:
        made(self, *given)
        self._reach = PATIENCE + SETTLE

    patch.setattr(once._Guarded, "__init__", without)


def take_an_error_for_a_sign_that_nothing_was_sent(patch: pytest.MonkeyPatch) -> None:
    release = Fence.release
    patch.setattr(Fence, "release", lambda self, seconds: release(self, None))


def send_again_where_nobody_knows(patch: pytest.MonkeyPatch) -> None:
    def again(standing: Any, *, replays: int, can_ask: bool) -> Step:
        step = begun(standing, replays=replays, can_ask=can_ask)
        return Step.RUN if step in {Step.GIVE_UP, Step.ASK} else step

    patch.setattr(once, "begun", again)


def lose_the_outcome(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryLedger, "_finished", lambda self, claim, result: True)


MUTANTS: dict[Callable[[pytest.MonkeyPatch], None], tuple[bool, bool]] = {
    never_mind_who_holds_the_token: (True, True),
    take_over_without_a_new_token: (True, True),
    believe_a_confirmation_however_old_it_is: (True, True),
    start_a_handler_however_long_ago_it_began: (True, False),
    believe_that_nothing_was_done_before_it_has_settled: (True, True),
    forget_that_a_run_may_take_as_long_as_its_time_out: (True, False),
    take_an_error_for_a_sign_that_nothing_was_sent: (True, True),
    send_again_where_nobody_knows: (False, True),
    lose_the_outcome: (False, True),
}


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    asks, confirms = MUTANTS[plant]
    broken = None
    for seed in range(MOST):
        try:
            play(seed, asks=asks, confirms=confirms)
        except BrokenPromiseError as error:
            broken = seed, str(error).splitlines()[0]
            break
    assert broken is not None, f"no world of {MOST} noticed"
    print(f"\nseed {broken[0]}: {broken[1]}", end="")
