from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas.contract import Contract
from streams.groups import groups
from streams.job import Catalogue, Queue, Subscription
from streams.topics import Action, Configure, Create, Refuse, Topic, family, plan, wanted

names = st.sampled_from(["a", "b", "c", "d"])
configs = st.dictionaries(st.sampled_from(["cleanup.policy", "retention.ms", "x"]), st.sampled_from(["1", "2"]))
topics = st.lists(
    st.builds(Topic, name=names, partitions=st.integers(1, 3), configs=configs), unique_by=lambda topic: topic.name
)


def applied(actions: list[Action], existing: list[Topic]) -> list[Topic]:
    """What a cluster looks like after the plan."""
    standing = {topic.name: topic for topic in existing}
    for action in actions:
        if isinstance(action, Create):
            standing[action.topic.name] = action.topic
        elif isinstance(action, Configure):
            old = standing[action.name]
            standing[action.name] = replace(old, configs={**old.configs, **action.configs})
    return list(standing.values())


@given(topics, topics)
def test_after_a_plan_without_refusal_nothing_is_left_to_do(declared: list[Topic], existing: list[Topic]) -> None:
    actions = plan(declared, existing)
    left = plan(declared, applied(actions, existing))
    assert left == [action for action in actions if isinstance(action, Refuse)]


@given(topics, topics)
def test_nothing_is_taken_away_and_no_partition_count_changes(declared: list[Topic], existing: list[Topic]) -> None:
    after = {topic.name: topic for topic in applied(plan(declared, existing), existing)}
    for topic in existing:
        assert after[topic.name].partitions == topic.partitions
        assert topic.configs.keys() <= after[topic.name].configs.keys()


@given(topics, topics)
def test_topics_that_are_not_declared_stay_as_they_are(declared: list[Topic], existing: list[Topic]) -> None:
    mine = {topic.name for topic in declared}
    after = applied(plan(declared, existing), existing)
    assert [topic for topic in after if topic.name not in mine] == [
        topic for topic in existing if topic.name not in mine
    ]


@given(topics)
def test_a_plan_for_what_stands_is_empty(existing: list[Topic]) -> None:
    assert plan(existing, existing) == []


@given(topics, topics)
def test_another_number_of_partitions_is_refused_by_name(declared: list[Topic], existing: list[Topic]) -> None:
    standing = {topic.name: topic.partitions for topic in existing}
    differing = {topic.name for topic in declared if standing.get(topic.name, topic.partitions) != topic.partitions}
    refused = {action.name for action in plan(declared, existing) if isinstance(action, Refuse)}
    assert refused == differing


def test_a_refusal_tells_both_numbers_and_what_to_declare() -> None:
    declared = Topic(name="jobs.emails", partitions=8, family="jobs.emails of emails")
    (refusal,) = plan([declared], [Topic(name="jobs.emails", partitions=4)])
    assert str(refusal) == (
        "jobs.emails: it has 4 partitions and 8 are declared (all topics of jobs.emails of emails must have the same "
        "number); that is never changed, since keys would move: declare 4"
    )


class Payload(BaseModel):
    name: str


EVENT = Contract(name="order.placed", kind="event", model=Payload, schemas=("{}",))
CATALOGUE = Catalogue(
    queues=(Queue(name="emails", tiers=(2, 86_400 * 30), partitions=3),),
    subscriptions=(Subscription(handler=print, name="sweeper", contracts=(EVENT,), tiers=(5,)),),
    event_partitions=6,
)


def test_a_family_is_source_tiers_and_dead_letters_with_equal_partitions() -> None:
    emails, sweeper = groups(CATALOGUE)
    assert [(topic.name, topic.partitions) for topic in family(emails)] == [
        ("jobs.emails", 3),
        ("jobs.emails.emails.retry.0", 3),
        ("jobs.emails.emails.retry.1", 3),
        ("jobs.emails.emails.retry.2", 3),
        ("jobs.emails.emails.dlt", 3),
    ]
    assert {topic.partitions for topic in family(sweeper)} == {6}


def test_a_tier_keeps_records_longer_than_they_wait_and_dead_letters_stay_for_ever() -> None:
    by_name = {topic.name: topic.configs for topic in wanted(CATALOGUE, (), 1)}
    assert int(by_name["jobs.emails.emails.retry.2"]["retention.ms"]) > 2 * 86_400_000 * 30
    assert by_name["jobs.emails.emails.dlt"]["retention.ms"] == "-1"


def test_a_moved_record_has_room_for_its_headers() -> None:
    by_name = {topic.name: topic.configs for topic in wanted(CATALOGUE, (), 1)}
    for name in ("retry.0", "retry.1", "retry.2", "dlt"):
        assert int(by_name[f"jobs.emails.emails.{name}"]["max.message.bytes"]) > 1_048_588  # the broker's default


def test_states_are_compacted_and_what_needs_total_order_has_one_partition() -> None:
    by_name = {topic.name: topic for topic in wanted(CATALOGUE, (), 1)}
    for name in ("job-status", "_schemas", "keylane.dlt-state"):
        assert by_name[name].configs["cleanup.policy"] == "compact"
    assert by_name["_schemas"].partitions == by_name["keylane.dlt-state"].partitions == 1


def test_events_without_a_subscription_have_their_topic_and_their_settings_are_left_alone() -> None:
    other = Contract(name="mail.sent", kind="event", model=Payload, schemas=("{}",))
    by_name = {topic.name: topic for topic in wanted(CATALOGUE, (EVENT, other), 3)}
    assert by_name["events.mail"].partitions == 6
    assert by_name["events.mail"].configs == by_name["events.order"].configs == {}


def test_three_replicas_need_two_for_a_write() -> None:
    by_name = {topic.name: topic for topic in wanted(CATALOGUE, (), 3)}
    assert by_name["job-status"].replication_factor == 3
    assert by_name["job-status"].configs["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in wanted(CATALOGUE, (), 2)[0].configs
