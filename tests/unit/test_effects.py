"""What a run may do about an effect, for everything the ledger and the provider can say."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from streams.core.effects import Standing, Step, answered, begun

STANDINGS = [
    Standing(token=2, new=new, same=same, finished=finished, result=None, unsettled=unsettled, replays=replays)
    for new, same, finished, unsettled, replays in product(
        (True, False), (True, False), (True, False), (None, -1.0, 0.0, 5.0), (0, 1)
    )
    if not new or (same and not finished)
]
REPLAYS = (0, 1, 2)


def may_have_sent(standing: Standing) -> bool:
    return not standing.new and standing.unsettled is not None


@pytest.mark.parametrize("can_ask", [True, False])
def test_a_run_that_begins_sends_only_where_nothing_was_sent_or_a_human_said_so(can_ask: bool) -> None:
    for standing, replays in product(STANDINGS, REPLAYS):
        step = begun(standing, replays=replays, can_ask=can_ask)
        if not standing.same:
            assert step is Step.REFUSE
        elif standing.finished:
            assert step is Step.RECOGNISE
        elif step is Step.RUN and may_have_sent(standing):
            assert not can_ask
            assert replays > standing.replays
            assert standing.unsettled <= 0
        elif may_have_sent(standing):
            assert step in ({Step.ASK} if can_ask else {Step.WAIT, Step.GIVE_UP})
        else:
            assert step is Step.RUN


@pytest.mark.parametrize("answer", ["done", "not-done", "unknown"])
def test_an_answer_is_believed_as_far_as_it_goes(answer: Any) -> None:
    for standing, replays in product(filter(may_have_sent, STANDINGS), REPLAYS):
        step = answered(standing, answer, replays=replays)
        if answer == "done":
            assert step is Step.FINISH, "whatever the time, and whatever the operator decided"
        elif standing.unsettled > 0:
            assert step is Step.WAIT, "it may still show"
        elif answer == "not-done":
            assert step is Step.RUN
        else:
            assert step is (Step.RUN if replays > standing.replays else Step.GIVE_UP)
