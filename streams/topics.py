"""The topics a deployment needs, and what must be done to a cluster so that it has them.

    wanted(catalogue, contracts, replication_factor) -> tuple[Topic, ...]
    plan(wanted, existing) -> list[Action]          # Create | Configure | Refuse

Invariant: a plan only adds: it never deletes a topic or a setting and never changes a number of partitions, since that
would move keys to other partitions and break their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from streams import audit, control, history
from streams.core.headers import dlt_topic, tier_topic
from streams.groups import groups, history_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.contract import Contract
    from streams.job import Catalogue, Group

_DAY = 86_400_000  # ms
_KEPT = 14 * _DAY  # how long a record may wait for a consumer that stands still
_ROOM = (
    "2097152"  # bytes: a record that moves takes headers along, so a family's other topics hold more than its source
)
_COMPACTED = {"cleanup.policy": "compact"}
_ORDERS = {"cleanup.policy": "compact,delete", "retention.ms": str(int(control.KEPT * 1000))}
_QUORUM = 3  # from so many replicas on, a write needs all but one


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it is wanted, or as it is.

    Attributes:
        configs: What is set on the topic itself; the broker's defaults do not count.
        family: The group and source whose topics must all have the same number of partitions.
    """

    name: str
    partitions: int
    replication_factor: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)
    family: str | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """Create the topic."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Configure:
    """Set these settings of a topic; ``before`` has the old value of those that are changed."""

    name: str
    configs: Mapping[str, str]
    before: Mapping[str, str]

    @property
    def changes(self) -> str:
        """Every setting with its old and its new value."""
        pairs = self.configs.items()
        return ", ".join(f"{key} {self.before.get(key, 'unset')} -> {value}" for key, value in pairs)


@dataclass(frozen=True, slots=True)
class Refuse:
    """What stands can not be brought to what is wanted; nothing at all is applied."""

    name: str
    reason: str

    def __str__(self) -> str:
        """One line for the operator."""
        return f"{self.name}: {self.reason}"


Action = Create | Configure | Refuse


def plan(wanted: Iterable[Topic], existing: Iterable[Topic]) -> list[Action]:
    """What to do, in the order wanted; empty when everything stands."""
    standing = {topic.name: topic for topic in existing}
    return [action for topic in wanted if (action := _step(topic, standing.get(topic.name))) is not None]


def _step(topic: Topic, found: Topic | None) -> Action | None:
    if found is None:
        return Create(topic)
    if found.partitions != topic.partitions:
        return Refuse(topic.name, _mismatch(topic, found))
    changed = {key: value for key, value in topic.configs.items() if found.configs.get(key) != value}
    before = {key: found.configs[key] for key in changed if key in found.configs}
    return Configure(topic.name, changed, before) if changed else None


def _mismatch(topic: Topic, found: Topic) -> str:
    family = f" (all topics of {topic.family} must have the same number)" if topic.family else ""
    return (
        f"it has {found.partitions} partitions and {topic.partitions} are declared{family}; "
        f"that is never changed, since keys would move: declare {found.partitions}"
    )


def wanted(catalogue: Catalogue, contracts: Iterable[Contract], replication_factor: int) -> tuple[Topic, ...]:
    """Every topic of the deployment, each once, by name.

    Raises:
        CatalogueError: The catalogue contradicts itself.
    """
    shared = {"min.insync.replicas": str(replication_factor - 1)} if replication_factor >= _QUORUM else {}
    bare = chain(
        (_event_topic(contract, catalogue) for contract in contracts if contract.kind == "event"),
        chain.from_iterable(map(family, (*groups(catalogue), history_group()))),
        _own(),
    )
    named = {
        topic.name: Topic(
            name=topic.name,
            partitions=topic.partitions,
            replication_factor=replication_factor,
            # Topics of events belong to who publishes them: their settings are not ours to change.
            configs={**topic.configs, **shared} if topic.configs else {},
            family=topic.family,
        )
        for topic in bare
    }
    return tuple(named[name] for name in sorted(named))


def family(group: Group) -> tuple[Topic, ...]:
    """The source of a group, its retry tiers, lowest first, and its dead letters."""
    name = f"{group.source} of {group.name}"
    delays = (0.0, *group.tiers)
    source = {} if group.ignore_unknown else _kept(_KEPT)
    levels = {
        group.source: source,
        **{
            tier_topic(group.source, group.name, tier): {**_kept(_KEPT + int(2000 * delay)), "max.message.bytes": _ROOM}
            for tier, delay in enumerate(delays)
        },
        dlt_topic(group.source, group.name): {**_kept(-1), "max.message.bytes": _ROOM},
    }
    return tuple(
        Topic(name=topic, partitions=group.partitions, configs=configs, family=name)
        for topic, configs in levels.items()
    )


def _kept(milliseconds: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(milliseconds)}


def _event_topic(contract: Contract, catalogue: Catalogue) -> Topic:
    return Topic(name=contract.topic, partitions=catalogue.event_partitions)


def _own() -> tuple[Topic, ...]:
    return (
        Topic(name="job-status", partitions=history.PARTITIONS, configs=_COMPACTED),
        Topic(name=control.TOPIC, partitions=1, configs=_ORDERS),
        Topic(name="_schemas", partitions=1, configs=_COMPACTED),
        Topic(name="keylane.dlt-state", partitions=1, configs=_COMPACTED),
        Topic(name=audit.TOPIC, partitions=1, configs=_kept(-1)),
    )
