"""The live table of the demonstration: one row per consumer group, and the proof at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table

from streams.core import headers
from streams.core.track import SHELF_SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.app.demo.ledger import Ledger
    from streams.app.demo.proof import GroupProof
    from streams.engine.engine import Engine

_COLUMNS = ("group", "topic", "done", "rate/s", "in flight", "waiting", "in tiers", "failed", "dead", "P50", "P95")
_LEGEND = "P50, P95: from publishing to the end of the work, retries included"


class Screen:
    """Draws the engines' state and the ledger; rates are over the time since the last drawing."""

    def __init__(self, engines: Mapping[str, Engine], sources: Mapping[str, str], ledger: Ledger) -> None:
        self._engines = engines
        self._sources = sources
        self._ledger = ledger
        self._last: dict[str, tuple[float, int]] = {}

    def live(self, dead: Mapping[str, int]) -> Table:
        """The table as of now; ``dead`` counts the dead letters by group."""
        table = Table(*_COLUMNS, title="keylane: every key in its own lane", caption=_LEGEND)
        for name in self._sources:
            table.add_row(name, self._sources[name], *self._figures(name, dead.get(name, 0)))
        return table

    def _figures(self, name: str, dead: int) -> list[str]:
        effects, core = self._ledger.groups[name], self._engines[name].core
        lanes = list(core.partitions.values())
        source = sum(len(each.source.pending) + len(each.source.inbox) for each in lanes)
        tiers = sum(
            len(track.pending)
            for each in lanes
            for shelf, track in each.tracks.items()
            if shelf not in {SHELF_SOURCE, headers.DLT}
        )
        counts = [len(effects.ids), self._rate(name), len(core.running), source, tiers, effects.failures, dead]
        times = [f"{1000 * effects.percentile(share):.0f} ms" for share in (0.5, 0.95)]
        return [*map(str, counts), *times]

    def _rate(self, name: str) -> int:
        now, done = time.monotonic(), len(self._ledger.groups[name].ids)
        before, count = self._last.get(name, (now, done))
        self._last[name] = (now, done)
        return int((done - count) / (now - before)) if now > before else 0


def proof_table(rows: Sequence[GroupProof]) -> Table:
    """The proof, a row per group."""
    columns = ("group", "published", "done", "lost", "out of order", "duplicates", "replayed", "dead (open)")
    table = Table(*columns, title="proof, from what the handlers really did")
    for row in rows:
        figures = (row.expected, row.done, row.lost, row.out_of_order, row.duplicates, row.replayed, row.dead)
        table.add_row(row.group, *map(str, figures), style=None if row.holds else "red")
    return table
