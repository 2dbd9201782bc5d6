"""What a worker tells of a group that has records waiting, while it runs."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from tests.eventually import eventually
from tests.integration.test_engine import dead_letters, kit

if TYPE_CHECKING:
    from tests.integration.engine_kit import Kit

__all__ = ["kit"]


def gauge(kit: Kit, name: str) -> float:
    found = re.search(rf'^{name}{{group="{kit.group.name}"}} (\S+)$', kit.metrics.text().decode(), re.MULTILINE)
    return float(found[1]) if found else -1.0


async def test_what_is_parked_due_held_and_how_old_the_oldest_is_can_be_seen(kit) -> None:
    async def handle(order, ctx) -> None:
        raise ValueError("not now")

    made = await kit(handle, tiers=(600.0,), attempts=2, on_dead="hold")
    began = time.time()
    async with made.engine(stall_timeout=0.8):
        for number in range(3):
            await made.publish(number, "a")
        await made.publish(9, "b", value=b"nobody can read this")
        await dead_letters(made, 1)

        async def seen() -> bool:
            return gauge(made, "keylane_parked") == 3 and gauge(made, "keylane_held_keys") == 1

        await eventually(seen, within=30)
        assert gauge(made, "keylane_due") == 2, "followers are due at once"
        assert 0 < gauge(made, "keylane_oldest_waiting_seconds") <= time.time() - began + 1
        assert gauge(made, "keylane_in_flight") == 0
        assert gauge(made, "keylane_waiting") == 3
