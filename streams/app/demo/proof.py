"""Compares what was published with what the handlers did: lost, out of order, twice, dead, replayed.

Invariant: every figure is computed from the publisher's acknowledgements, the ledger around the handlers and the
dead-letter topics; nothing comes from the engine's own counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.app.demo.ledger import Effects, Ledger
    from streams.app.demo.load import Published
    from streams.job import Group


@dataclass(frozen=True, slots=True)
class GroupProof:
    """What became of one group's share of the load."""

    group: str
    expected: int
    done: int
    dead: int
    replayed: int
    lost: int
    out_of_order: int
    duplicates: int

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, out of order or done twice."""
        return not (self.lost or self.out_of_order or self.duplicates)


def expected(group: Group, published: Published) -> set[str]:
    """The records of the load that this group handles."""
    return {event_id for event_id, name in published.types.items() if name in group.works}


def prove(
    groups: Iterable[Group],
    published: Published,
    ledger: Ledger,
    dead: Mapping[str, set[str]],
    replayed: Mapping[str, set[str]],
) -> list[GroupProof]:
    """One row per group.

    Args:
        groups: Those that handle records of the load.
        published: What was acknowledged.
        ledger: What the handlers did.
        dead: Ids of the dead letters that are open, by group.
        replayed: Ids that were replayed, by group: their key went on without them.
    """
    return [
        _prove(
            group, published, ledger.groups[group.name], dead.get(group.name, set()), replayed.get(group.name, set())
        )
        for group in groups
    ]


def _prove(group: Group, published: Published, effects: Effects, dead: set[str], replayed: set[str]) -> GroupProof:
    wanted = expected(group, published)
    done = wanted & set(effects.counts)
    return GroupProof(
        group=group.name,
        expected=len(wanted),
        done=len(done),
        dead=len((wanted & dead) - done),
        replayed=len(wanted & replayed),
        lost=len(wanted - done - dead),
        out_of_order=sum(
            _inversions(ids, effects.by_key.get(key, []), replayed) for key, ids in published.by_key.items()
        ),
        duplicates=sum(count - 1 for event_id, count in effects.counts.items() if event_id in wanted),
    )


def _inversions(published: Sequence[str], effects: Sequence[str], replayed: set[str]) -> int:
    """How often a record took effect before an earlier one of its key; replayed ones came later on purpose."""
    place = {event_id: n for n, event_id in enumerate(published) if event_id not in replayed}
    order = [place[event_id] for event_id in effects if event_id in place]
    return sum(later < earlier for earlier, later in pairwise(order))
