"""The consumer groups a catalogue asks for: one per job queue, one per event subscription.

    groups(catalogue) -> tuple[Group, ...]          # raises CatalogueError

Invariant: a catalogue that contradicts itself is refused here, in one sentence, before anything runs.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from streams import history
from streams.job import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.job import Catalogue, Job, Queue, Subscription, Work

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")  # part of topic names, which hold at most 249 characters


class CatalogueError(ValueError):
    """The declarations contradict each other; the message names the thing and what is wrong with it."""


def groups(catalogue: Catalogue) -> tuple[Group, ...]:
    """The group of every queue, then that of every subscription, in the order declared.

    Raises:
        CatalogueError: A name is used twice or cannot be part of a topic's name, a job names an unknown queue, a
            subscription spans several domains, delays do not ascend, or a number is too small.
    """
    _refuse_unknown_queues(catalogue)
    found = (
        *(_of_queue(queue, catalogue.jobs) for queue in catalogue.queues),
        *(_of_subscription(one, catalogue.event_partitions) for one in catalogue.subscriptions),
    )
    _refuse_twins("consumer group", (group.name for group in found))
    _refuse_twins("periodic work", (one.name for one in catalogue.periodics))
    for group in found:
        _check(group)
    return found


def chosen(declared: Iterable[Group], names: Sequence[str]) -> list[Group]:
    """The groups of these names, in this order; all where none are named.

    Raises:
        CatalogueError: A name is no group's.
    """
    known = {group.name: group for group in declared}
    if unknown := set(names) - set(known):
        raise CatalogueError(f"no consumer group {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return [known[name] for name in names or known]


def history_group(work: Work | None = None) -> Group:
    """The group that keeps the history of jobs; ``work`` is its projection, where it is to be run."""
    return Group(
        name=history.GROUP,
        source=history.TOPIC,
        tiers=(),
        partitions=history.PARTITIONS,
        concurrency=2,
        works={} if work is None else {history.CONTRACT_NAME: work},
    )


def _of_queue(queue: Queue, jobs: Sequence[Job]) -> Group:
    mine = [job for job in jobs if job.queue == queue.name]
    _refuse_twins("job", (job.type for job in mine))
    return Group(
        name=queue.name,
        source=f"jobs.{queue.name}",
        tiers=queue.tiers,
        partitions=queue.partitions,
        concurrency=queue.concurrency,
        works={job.type: job for job in mine},
    )


def _of_subscription(subscription: Subscription, partitions: int) -> Group:
    contracts = subscription.contracts
    topics = sorted({contract.topic for contract in contracts})
    if len(topics) != 1:
        raise CatalogueError(
            f"subscription {subscription.name}: its events must share one domain, got {', '.join(topics) or 'none'}"
        )
    strangers = [contract.name for contract in contracts if contract.kind != "event"]
    if strangers:
        raise CatalogueError(f"subscription {subscription.name}: {strangers[0]} is not an event")
    works: dict[str, Work] = {contract.name: subscription for contract in contracts}
    return Group(
        name=subscription.name,
        source=topics[0],
        tiers=subscription.tiers,
        partitions=partitions,
        concurrency=subscription.concurrency,
        works=works,
        ignore_unknown=True,
    )


def _refuse_unknown_queues(catalogue: Catalogue) -> None:
    known = {queue.name for queue in catalogue.queues}
    for job in catalogue.jobs:
        if job.queue not in known:
            raise CatalogueError(f"job {job.type}: there is no queue {job.queue!r}")
        if job.contract.kind != "job":
            raise CatalogueError(f"job {job.type}: its contract is of kind {job.contract.kind!r}, not 'job'")
    _refuse_twins("job", (job.type for job in catalogue.jobs))


def _refuse_twins(what: str, names: Iterable[str]) -> None:
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise CatalogueError(f"{what} {twins[0]} is declared twice")


def _check(group: Group) -> None:
    if not _NAME.fullmatch(group.name):
        raise CatalogueError(f"group {group.name!r}: only small letters, digits, '-' and '_' may be in its name")
    if any(delay <= 0 for delay in group.tiers) or any(
        a >= b for a, b in zip(group.tiers, group.tiers[1:], strict=False)
    ):
        raise CatalogueError(f"group {group.name}: the delays of its tiers must ascend from above 0, got {group.tiers}")
    if group.partitions < 1 or group.concurrency < 1:
        raise CatalogueError(f"group {group.name}: partitions and concurrency must be at least 1")
