"""What brings audit records to the topic goes on whatever goes wrong, and tells of it once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from structlog.testing import capture_logs

from streams.app import access
from streams.job import TransientError
from tests.eventually import eventually

if TYPE_CHECKING:
    import pytest

ENDS: list[Exception | int] = [
    TransientError("away"),
    TransientError("away"),
    ValueError("odd"),
    3,
    TransientError("away"),
]


class Trail:
    """Publishing it ends as ``ENDS`` says, and then with nothing to publish."""

    def __init__(self) -> None:
        self.looks = 0

    async def publish(self, _publisher: object) -> int:
        self.looks += 1
        found = ENDS[self.looks - 1] if self.looks <= len(ENDS) else 0
        if isinstance(found, Exception):
            raise found
        return found


async def test_a_trail_that_cannot_be_published_is_tried_again_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_RELAY", 0)
    trail = Trail()

    async def done() -> bool:
        return trail.looks > len(ENDS)

    with capture_logs() as logs:
        async with access._relayed(cast("Any", trail), cast("Any", object())):
            await eventually(done)
    told = [entry["reason"] for entry in logs if entry["event"] == "audit records not published yet"]
    assert told == ["TransientError: away", "ValueError: odd", "TransientError: away"]
    looks = trail.looks
    await asyncio.sleep(0)
    assert trail.looks == looks, "it has ended"
