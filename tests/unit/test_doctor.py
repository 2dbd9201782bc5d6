"""Each judgement of ``keylane doctor`` on a set-up that is sound and on one that is not."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import ClusterAuthorizationFailedError

from streams.adapters.kafka import cluster
from streams.adapters.kafka.cluster import Broker, TopicFacts
from streams.core import commit_map
from streams.doctor.brokers import judge_brokers
from streams.doctor.finding import some
from streams.doctor.servers import (
    Clock,
    judge_clock,
    judge_database,
    judge_disk,
    judge_redis,
    judge_registry,
    judge_settings,
)
from streams.doctor.topics import judge_plan, judge_replicas, judge_retention, judge_sizes, kept_ms
from streams.job import Group
from streams.settings import Settings
from streams.topics import Configure, Create, Refuse, Topic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.doctor.finding import Finding

GROUP = Group(name="g", source="s", tiers=(10.0,), partitions=2, concurrency=1, works={})
BROKER = Broker(
    1,
    {
        "offset.metadata.max.bytes": "4096",
        "offsets.retention.minutes": "20160",
        "group.min.session.timeout.ms": "6000",
        "group.max.session.timeout.ms": "1800000",
    },
    {11: 9},
)
FORTNIGHT = 14 * 86_400_000.0
GIB = 1024**3


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def topic(name: str, replicas: int = 1, *, lagging: int = 0, leaderless: int = 0, **configs: str) -> TopicFacts:
    named = {key.replace("_", "."): value for key, value in configs.items()}
    return TopicFacts(name, 2, replicas, lagging, leaderless, named)


def by_name(*topics: TopicFacts) -> dict[str, TopicFacts]:
    return {one.name: one for one in topics}


def only(findings: Iterable[Finding]) -> Finding:
    """The one finding; that what is unsound comes with advice holds for all of them."""
    (found,) = findings
    assert bool(found.advice) == (found.status != "ok")
    return found


def of(findings: Iterable[Finding], check: str) -> Finding:
    return only(one for one in findings if one.check == check)


def brokers(*given: Broker, kept: float = FORTNIGHT, **changed: Any) -> list[Finding]:
    return list(judge_brokers(given or (BROKER,), settings(**changed), kept))


def with_config(name: str, value: str) -> Broker:
    return replace(BROKER, configs={**BROKER.configs, name: value})


def test_a_broker_as_it_should_be_is_sound_in_everything() -> None:
    assert {one.status for one in brokers()} == {"ok"}


def test_a_broker_too_old_for_static_members_fails() -> None:
    found = of(brokers(BROKER, replace(BROKER, id=2, apis={11: 4})), "kafka version")
    assert (found.status, found.found) == ("fail", "broker 2 knows no static members")


@pytest.mark.parametrize(
    ("count", "factor", "status"), [(1, 1, "ok"), (1, 3, "fail"), (3, 1, "warn"), (3, 3, "ok"), (2, 1, "ok")]
)
def test_replicas_that_are_wanted_need_brokers_and_brokers_should_have_replicas(
    count: int, factor: int, status: str
) -> None:
    assert of(brokers(*[BROKER] * count, replication_factor=factor), "replication").status == status


def test_a_metadata_limit_below_the_commit_maps_fails_on_whichever_broker_it_is() -> None:
    name = "offset.metadata.max.bytes"
    found = of(brokers(BROKER, with_config(name, str(commit_map.LIMIT - 1))), name)
    assert (found.status, found.found) == ("fail", "3999, 4000 needed")
    assert of(brokers(with_config(name, str(commit_map.LIMIT))), name).status == "ok"


def test_offsets_that_are_forgotten_before_the_records_are_warned_of() -> None:
    name = "offsets.retention.minutes"
    found = of(brokers(with_config(name, "10080")), name)
    assert (found.status, found.found) == ("warn", "7 days, sources keep records for 14")
    assert "=20160" in found.advice


def test_what_the_brokers_do_not_tell_is_not_taken_for_sound() -> None:
    findings = brokers(BROKER, replace(BROKER, configs={}))
    assert {one.check for one in findings if one.found == "the brokers do not tell it"} == {
        "offset.metadata.max.bytes",
        "offsets.retention.minutes",
        "session timeout",
    }
    assert {one.status for one in findings if "do not tell" in one.found} == {"warn"}


async def test_a_client_that_may_not_look_is_told_so_and_gets_no_empty_answer() -> None:
    denied = SimpleNamespace(resources=[(31, "denied", 4, "1", [])])
    admin = SimpleNamespace(describe_configs=AsyncMock(return_value=[denied]))
    with pytest.raises(ClusterAuthorizationFailedError, match="1: denied"):
        await cluster._configs(admin, ConfigResourceType.BROKER, ["1"])


@pytest.mark.parametrize("seconds", [1.0, 7200.0])
def test_a_session_time_out_that_the_brokers_refuse_fails(seconds: float) -> None:
    assert of(brokers(session_timeout=seconds), "session timeout").status == "fail"


def test_topics_as_declared_are_sound() -> None:
    assert only(judge_plan([], 5)).status == "ok"


def test_missing_topics_fail_by_name_and_settings_that_differ_are_warned_of() -> None:
    actions = [
        *(Create(Topic(name=f"t{n}", partitions=1)) for n in range(5)),
        Configure("u", {"retention.ms": "5"}, {"retention.ms": "4"}),
        Refuse("v", "it has 3 partitions and 4 are declared"),
    ]
    missing, setting, refused = judge_plan(actions, 9)
    assert (missing.status, missing.found) == ("fail", "missing: t0, t1, t2 and 2 more")
    assert (setting.status, setting.found) == ("warn", "u: retention.ms 4 -> 5")
    assert (refused.status, refused.found) == ("fail", "v: it has 3 partitions and 4 are declared")


@pytest.mark.parametrize(
    ("kept", "scale", "status"),
    [("20000", 1.0, "ok"), ("19999", 1.0, "warn"), ("9999", 1.0, "fail"), ("9999", 0.1, "ok"), ("-1", 1.0, "ok")],
)
def test_a_tier_must_keep_records_longer_than_they_wait(kept: str, scale: float, status: str) -> None:
    topics = by_name(topic("s.g.retry.1", retention_ms=kept))
    assert only(judge_retention([GROUP], topics, scale)).status == status


def test_dead_letters_that_are_forgotten_are_warned_of() -> None:
    found = only(judge_retention([GROUP], by_name(topic("s.g.dlt", retention_ms="60000")), 1.0))
    assert (found.status, found.found) == ("warn", "s.g.dlt forgets dead letters after 60 s")


def test_a_compacted_topic_keeps_its_records() -> None:
    assert kept_ms(topic("t", cleanup_policy="compact", retention_ms="5")) == math.inf
    assert kept_ms(topic("t", retention_ms="5")) == 5
    assert kept_ms(None) == math.inf


@pytest.mark.parametrize(
    ("facts", "factor", "status", "what"),
    [
        (topic("t", 3, min_insync_replicas="2"), 3, "ok", "at least 3"),
        (topic("t"), 1, "ok", "at least 1"),
        (topic("t"), 3, "warn", "fewer replicas than wanted of t"),
        (topic("t", 2, min_insync_replicas="2"), 2, "warn", "one broker away stops all writes to t"),
        (topic("t", 3), 3, "warn", "one replica is enough for a write to t"),
        (topic("t", 3, min_insync_replicas="2", lagging=1), 3, "warn", "out of sync of t"),
        (topic("t", 3, min_insync_replicas="2", leaderless=1), 3, "fail", "nobody serves partitions of t"),
        (
            topic("t", 2, unclean_leader_election_enable="true"),
            2,
            "warn",
            "an unclean election may cut off t",
        ),
    ],
)
def test_replicas_are_judged_by_what_a_lost_broker_does(facts: TopicFacts, factor: int, status: str, what: str) -> None:
    found = only(judge_replicas(by_name(facts), factor))
    assert found.status == status
    assert what in found.found


def test_nothing_is_said_of_the_replicas_of_topics_that_are_missing() -> None:
    assert list(judge_replicas({}, 1)) == []


def test_a_tier_narrower_than_its_source_fails() -> None:
    topics = by_name(topic("s", max_message_bytes="5000"), topic("s.g.retry.1", max_message_bytes="4999"))
    found = only(judge_sizes([GROUP], topics, 1000))
    assert (found.status, found.found) == ("fail", "narrower than their source: s.g.retry.1 (4999 bytes)")


def test_a_body_larger_than_its_topic_takes_is_warned_of() -> None:
    topics = by_name(topic("s", max_message_bytes="5000"))
    assert only(judge_sizes([GROUP], topics, 5001)).status == "warn"
    assert only(judge_sizes([GROUP], topics, 5000)).status == "ok"


def test_a_drain_longer_than_the_rebalance_fails() -> None:
    assert only(judge_settings(settings())).status == "ok"
    assert only(judge_settings(settings(drain_timeout=30.0, rebalance_timeout=30.0))).status == "fail"


def test_scaled_delays_are_warned_of() -> None:
    _, scaled = judge_settings(settings(tier_scale=0.02))
    assert (scaled.status, scaled.found) == ("warn", "KEYLANE_TIER_SCALE is 0.02")


@pytest.mark.parametrize(
    ("version", "policy", "statuses"),
    [
        ("6.2.14", "noeviction", ["ok", "ok"]),
        ("8.0", "noeviction", ["ok", "ok"]),
        ("6.0.9", "noeviction", ["warn", "ok"]),
        ("7.2.1", "allkeys-lru", ["ok", "warn"]),
    ],
)
def test_redis_must_be_new_enough_and_must_not_evict(version: str, policy: str, statuses: list[str]) -> None:
    assert [one.status for one in judge_redis(version, 0, policy)] == statuses


@pytest.mark.parametrize(("revision", "status"), [("0002", "ok"), ("0001", "warn"), (None, "warn")])
def test_a_database_must_be_at_our_migration(revision: str | None, status: str) -> None:
    assert judge_database("17.1", revision, "0002").status == status


def test_schemas_that_are_missing_are_warned_of_and_refused_ones_fail() -> None:
    assert only(judge_registry("http://r", 4, [], [])).found == "http://r has all 4 schemas"
    refused, unknown = judge_registry("http://r", 2, ["a v2"], ["b v1"])
    assert (refused.status, unknown.status) == ("fail", "warn")
    assert "b v1" in refused.found
    assert "a v2" in unknown.found


@pytest.mark.parametrize(
    ("ahead", "within", "status"), [(0.9, 0.0, "ok"), (-1.4, 0.5, "ok"), (-2.0, 0.5, "warn"), (40.0, 0.5, "fail")]
)
def test_a_clock_counts_as_wrong_only_by_what_the_answers_delay_does_not_explain(
    ahead: float, within: float, status: str
) -> None:
    assert judge_clock(Clock("redis", ahead, within)).status == status


@pytest.mark.parametrize(("free", "status"), [(3 * GIB, "ok"), (GIB, "warn"), (GIB // 10, "fail")])
def test_the_embedded_servers_need_room(free: int, status: str) -> None:
    assert judge_disk("data", free).status == status


def test_many_names_are_cut_short() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d"]) == "a, b, c and 1 more"
