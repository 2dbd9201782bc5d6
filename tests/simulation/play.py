"""Plays one world from its seed, and tells by a value what came of it."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from streams.core import commit_map
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass(frozen=True, slots=True)
class Played:
    """``error``: what broke, None where every promise held; ``trace``: the story, a line for all that happened."""

    seed: int
    error: AssertionError | None
    trace: tuple[str, ...]
    faults: tuple[str, ...]
    records: tuple[int, ...]
    effects: int
    repeats: int
    counts: Counter[str]
    of_key: frozenset[int]  # the records of the key that broke, or all

    @property
    def digest(self) -> str:
        """Of the whole story: the same for the same world."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def concerns(self, line: str) -> bool:
        """Whether a line of the story is about the key that broke, or about all."""
        named = {int(number) for number in re.findall(r"#(\d+)\b(?!\w)", line) if "fault" not in line}
        return not named or bool(named & self.of_key)


def play(seed: int, faults: Collection[str] | None = None, records: Collection[int] | None = None) -> Played:
    """Play the world of a seed, with some of its faults and records only where they are given."""
    world = World(seed, faults, records)
    error: AssertionError | None = None
    with _telling(world), _maps_of(world.map_limit):
        try:
            world.run()
        except AssertionError as failure:
            error = failure
        finally:
            world.bury()
    promises, happened = world.promises, tuple(world.faults.happened)
    broken = getattr(error, "number", None)
    of_key = [plan.number for plan in world.plans if broken is None or plan.key == world.plans[broken].key]
    return Played(
        seed,
        error,
        tuple(world.trace),
        happened,
        tuple(plan.number for plan in world.plans if plan.published),
        promises.effects,
        promises.repeats,
        world.counts + Counter(name.partition("#")[0] for name in happened) + Counter(faults=len(happened)),
        frozenset(of_key),
    )


@contextlib.contextmanager
def _maps_of(characters: int) -> Iterator[None]:
    """What a commit may tell beside its offset: where that is little, gaps are moved out of the way."""
    kept, commit_map.LIMIT = commit_map.LIMIT, characters
    try:
        yield
    finally:
        commit_map.LIMIT = kept


@contextlib.contextmanager
def _telling(world: World) -> Iterator[None]:
    """What the engine logs becomes part of the story; garbage waits, since its finalizers are nobody's steps."""

    def tell(_: Any, __: str, event: dict[str, Any]) -> Any:
        reason = event.get("reason", "")
        world.note(f"  log: {event['event']} {reason}".rstrip())
        if isinstance(event.get("exc_info"), Exception):  # the engine starts over, but nobody's fault broke it
            world.died("engine", event["exc_info"])
        raise structlog.DropEvent

    kept = structlog.get_config()
    collecting = gc.isenabled()
    gc.disable()
    structlog.configure(processors=[tell], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**kept)
        if collecting:
            gc.enable()
