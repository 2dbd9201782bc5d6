"""What the history is told of a job's result, whatever a handler returns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.job_status.model import CONTRACT, Status
from streams.core.commit_map import CommitMap
from streams.core.headers import SOURCE
from streams.core.track import SHELF_SOURCE, Entry, Track
from streams.engine.tracker import Tracker
from tests.simulation.broker import Rec


class Told:
    """Stands for codec and outbox: keeps the statuses."""

    def __init__(self) -> None:
        self.makes: list[Any] = []
        self.statuses: list[Status] = []

    def put(self, make: Any) -> None:
        self.makes.append(make)

    async def encode(self, contract: Any, model: Status) -> bytes:
        del contract
        self.statuses.append(model)
        return b""


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, None),
        ({"mail": "sent"}, '{"mail": "sent"}'),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, '{"at": "2026-01-01 00:00:00+00:00"}'),
        ({1}, '"{1}"'),
        ({(1, 2): 3}, '"{(1, 2): 3}"'),
    ],
)
async def test_a_result_that_json_cannot_hold_is_kept_as_text(result, text) -> None:
    told = Told()
    tracker = Tracker(told, told, CONTRACT, topic="job-status", queue="q", worker="w")
    record = Rec("jobs.q", 0, 7, 0, b"t/a", b"", (("ce_id", b"j-1"),))
    entry = Entry(Track(SHELF_SOURCE, 0, CommitMap()), 7, b"t/a", SOURCE, record)
    tracker.completed(entry, SimpleNamespace(type="x"), result)
    message = await told.makes[0]()
    assert message.key == b"j-1"
    assert told.statuses[0].result == text
    assert text is None or json.loads(text) is not None
