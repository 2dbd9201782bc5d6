"""Judges the topics: there, alike within a family, kept long enough, safe, and with room for what moves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streams.core.headers import dlt_topic, tier_topic
from streams.doctor.finding import fail, ok, some, warn
from streams.topics import Configure, Create, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from streams.adapters.kafka.cluster import TopicFacts
    from streams.doctor.finding import Finding
    from streams.job import Group
    from streams.topics import Action

_APPLY = "run `keylane topics apply`"
_SAFE = 3  # replicas from which on two must have a write


def judge_plan(actions: Sequence[Action], declared: int) -> Iterator[Finding]:
    """Whether the topics are as declared."""
    missing = [one.topic.name for one in actions if isinstance(one, Create)]
    if missing:
        yield fail("topics", f"missing: {some(missing)}", _APPLY)
    for one in actions:
        if isinstance(one, Refuse):
            yield fail("partitions", str(one), "bring the declaration and the topic in step; see `keylane topics plan`")
        elif isinstance(one, Configure):
            yield warn("topic settings", f"{one.name}: {one.changes}", _APPLY)
    if not actions:
        yield ok("topics", f"all {declared} stand as declared, families alike")


def judge_retention(groups: Sequence[Group], topics: Mapping[str, TopicFacts], scale: float) -> Iterator[Finding]:
    """Whether records wait in tiers no longer than these keep them, and dead letters are kept."""
    wrong = [one for group in groups for one in _retention(group, topics, scale)]
    yield from wrong or [ok("retention", "every tier keeps records for at least twice its delay, dead letters stay")]


def _retention(group: Group, topics: Mapping[str, TopicFacts], scale: float) -> Iterator[Finding]:
    for tier, delay in enumerate(group.tiers, 1):
        topic = tier_topic(group.source, group.name, tier)
        kept, need = kept_ms(topics.get(topic)), delay * scale * 1000
        found = f"{topic} keeps records for {kept / 1000:g} s, they wait {need / 1000:g} s"
        if kept < need:
            yield fail("retention", found, f"{_APPLY}: records are deleted before they are due")
        elif kept < 2 * need:
            yield warn("retention", found, f"{_APPLY}: a short stand-still loses records")
    topic = dlt_topic(group.source, group.name)
    if (kept := kept_ms(topics.get(topic))) < math.inf:
        yield warn("retention", f"{topic} forgets dead letters after {kept / 1000:g} s", _APPLY)


def judge_replicas(topics: Mapping[str, TopicFacts], factor: int) -> Iterator[Finding]:
    """Whether a lost broker loses a record, or stops everything."""
    sound = bool(topics)
    for judge, wrong, what, advice in _REPLICAS:
        names = [name for name, topic in topics.items() if wrong(topic, factor)]
        if names:
            sound = False
            yield judge("replicas", f"{what} {some(names)}", advice)
    if sound:
        least = min(topic.replicas for topic in topics.values())
        yield ok("replicas", f"at least {least} of every topic, all in sync")


def judge_sizes(groups: Sequence[Group], topics: Mapping[str, TopicFacts], body: int) -> Iterator[Finding]:
    """Whether what a source holds fits where it may move to, and what clients may send fits into the sources."""
    narrow = [
        f"{topics[name].name} ({_room(topics[name])} bytes)"
        for group in groups
        if group.source in topics
        for name in _moved_to(group)
        if name in topics and _room(topics[name]) < _room(topics[group.source])
    ]
    if narrow:
        yield fail(
            "message size", f"narrower than their source: {some(narrow)}", f"{_APPLY}, or raise max.message.bytes"
        )
    tight = sorted({g.source for g in groups if g.source in topics and _room(topics[g.source]) < body})
    if tight:
        yield warn(
            "message size",
            f"KEYLANE_MAX_BODY_BYTES is {body}, more than {some(tight)} take",
            "raise max.message.bytes, or lower it",
        )
    if not narrow and not tight:
        yield ok("message size", f"sources take bodies of {body} bytes, and what moves fits")


def kept_ms(topic: TopicFacts | None) -> float:
    """How long a topic keeps its records; for ever where it compacts them or there is none."""
    if topic is None or topic.configs.get("cleanup.policy") == "compact":
        return math.inf
    kept = float(topic.configs.get("retention.ms", -1))
    return math.inf if kept < 0 else kept


def _moved_to(group: Group) -> list[str]:
    tiers = [tier_topic(group.source, group.name, tier) for tier in range(len(group.tiers) + 1)]
    return [*tiers, dlt_topic(group.source, group.name)]


def _room(topic: TopicFacts) -> int:
    return int(topic.configs.get("max.message.bytes", 1_048_588))


def _in_sync(topic: TopicFacts) -> int:
    return int(topic.configs.get("min.insync.replicas", 1))


def _unclean(topic: TopicFacts, _factor: int) -> bool:
    return topic.replicas > 1 and topic.configs.get("unclean.leader.election.enable") == "true"


_REPLICAS: tuple[tuple[Callable[[str, str, str], Finding], Callable[[TopicFacts, int], bool], str, str], ...] = (
    (fail, lambda t, _: t.leaderless > 0, "nobody serves partitions of", "bring the brokers back that hold them"),
    (warn, lambda t, _: t.lagging > 0, "replicas are out of sync of", "see why their brokers lag behind"),
    (warn, lambda t, factor: t.replicas < factor, "fewer replicas than wanted of", "reassign their partitions"),
    (
        warn,
        lambda t, _: 1 < t.replicas <= _in_sync(t),
        "one broker away stops all writes to",
        "set min.insync.replicas below the number of replicas",
    ),
    (
        warn,
        lambda t, _: t.replicas >= _SAFE and _in_sync(t) == 1,
        "one replica is enough for a write to",
        "set min.insync.replicas=2: a lost disk loses acknowledged records otherwise",
    ),
    (warn, _unclean, "an unclean election may cut off", "set unclean.leader.election.enable=false"),
)
