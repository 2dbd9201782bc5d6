from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from schemas.contract import Contract
from streams.groups import CatalogueError, groups
from streams.job import Catalogue, Job, Periodic, Queue, Subscription

if TYPE_CHECKING:
    from schemas.contract import Kind


class Payload(BaseModel):
    name: str


def contract(name: str, kind: Kind = "job") -> Contract:
    return Contract(name=name, kind=kind, model=Payload, schemas=("{}",))


async def handle(payload: Any, ctx: Any) -> None: ...


def job(name: str = "mail.send", queue: str = "emails", kind: Kind = "job") -> Job:
    return Job(handler=handle, contract=contract(name, kind), queue=queue, key=lambda payload: str(payload.name))


def subscription(name: str = "sweeper", events: tuple[str, ...] = ("order.placed",), **more: Any) -> Subscription:
    return Subscription(handler=handle, name=name, contracts=tuple(contract(e, "event") for e in events), **more)


EMAILS = Queue(name="emails", tiers=(2, 4), concurrency=7, partitions=3)


def test_the_jobs_of_a_queue_make_one_group_on_the_queues_topic() -> None:
    first, second = job("mail.send"), job("mail.digest")
    (group,) = groups(Catalogue(queues=(EMAILS,), jobs=(first, second)))
    assert (group.name, group.source, group.tiers, group.partitions) == ("emails", "jobs.emails", (2, 4), 3)
    assert group.concurrency == 7
    assert group.works == {"mail.send": first, "mail.digest": second}
    assert not group.ignore_unknown


def test_a_subscription_is_a_group_of_its_own_on_the_events_topic() -> None:
    sweeper = subscription(events=("order.placed", "order.paid"), tiers=(1, 9), concurrency=5)
    (group,) = groups(Catalogue(subscriptions=(sweeper,), event_partitions=6))
    assert (group.name, group.source, group.tiers, group.partitions) == ("sweeper", "events.order", (1, 9), 6)
    assert group.works == {"order.placed": sweeper, "order.paid": sweeper}
    assert group.ignore_unknown


def test_handlers_of_one_event_have_groups_that_fail_and_wait_apart() -> None:
    both = groups(Catalogue(subscriptions=(subscription("a"), subscription("b"))))
    assert [(group.name, group.source) for group in both] == [("a", "events.order"), ("b", "events.order")]


@pytest.mark.parametrize(
    ("catalogue", "sentence"),
    [
        (Catalogue(jobs=(job(queue="mails"),)), "job mail.send: there is no queue 'mails'"),
        (Catalogue(queues=(EMAILS,), jobs=(job(kind="event"),)), "kind 'event'"),
        (Catalogue(queues=(EMAILS,), jobs=(job(), job())), "job mail.send is declared twice"),
        (Catalogue(queues=(EMAILS, EMAILS)), "consumer group emails is declared twice"),
        (
            Catalogue(queues=(EMAILS,), subscriptions=(subscription("emails"),)),
            "consumer group emails is declared twice",
        ),
        (
            Catalogue(
                periodics=(Periodic(name="sweep", every=1, run=handle), Periodic(name="sweep", every=2, run=handle))
            ),
            "periodic work sweep is declared twice",
        ),
        (Catalogue(subscriptions=(subscription(events=("order.placed", "mail.sent")),)), "events.mail, events.order"),
        (Catalogue(subscriptions=(subscription(events=()),)), "share one domain, got none"),
        (
            Catalogue(subscriptions=(Subscription(handler=handle, name="s", contracts=(contract("order.x"),)),)),
            "order.x is not an event",
        ),
        (Catalogue(queues=(Queue(name="e mails"),)), "only small letters"),
        (Catalogue(queues=(Queue(name="e", tiers=(4, 2)),)), "must ascend"),
        (Catalogue(queues=(Queue(name="e", tiers=(2, 2)),)), "must ascend"),
        (Catalogue(queues=(Queue(name="e", tiers=(0,)),)), "must ascend from above 0"),
        (Catalogue(queues=(Queue(name="e", partitions=0),)), "at least 1"),
        (Catalogue(queues=(Queue(name="e", concurrency=0),)), "at least 1"),
    ],
)
def test_declarations_that_contradict_each_other_are_refused(catalogue: Catalogue, sentence: str) -> None:
    with pytest.raises(CatalogueError, match=sentence):
        groups(catalogue)
