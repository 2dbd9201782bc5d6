from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin, TopicsRefusedError
from streams.cli.topics import app
from streams.topics import Configure, Create, Refuse, Topic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streams.settings import Settings
    from tests.servers import CreateTopics


@pytest.fixture
def admin(settings: Settings) -> TopicAdmin:
    return TopicAdmin(client_options(settings))


async def test_a_missing_topic_is_created_once(admin: TopicAdmin, unique: Callable[[str], str]) -> None:
    topic = Topic(name=unique("orders"), partitions=3, configs={"cleanup.policy": "compact"})
    actions = await admin.plan([topic])
    assert actions == [Create(topic)]
    await admin.apply(actions)
    assert await admin.plan([topic]) == []
    await admin.apply(actions)  # somebody else was faster


async def test_a_setting_is_added_and_those_of_others_stay(
    admin: TopicAdmin, unique: Callable[[str], str], create_topics: CreateTopics
) -> None:
    name = unique("orders")
    await create_topics(name, partitions=2, configs={"retention.ms": "1000", "segment.ms": "60000"})
    actions = await admin.plan([Topic(name=name, partitions=2, configs={"retention.ms": "-1"})])
    assert actions == [Configure(name, {"retention.ms": "-1"}, {"retention.ms": "1000"})]
    await admin.apply(actions)
    kept = Topic(name=name, partitions=2, configs={"retention.ms": "-1", "segment.ms": "60000"})
    assert await admin.plan([kept]) == []


async def test_a_plan_with_a_refusal_changes_nothing(
    admin: TopicAdmin, unique: Callable[[str], str], create_topics: CreateTopics
) -> None:
    standing, missing = unique("orders"), unique("missing")
    await create_topics(standing, partitions=2)
    wanted = [Topic(name=standing, partitions=4), Topic(name=missing, partitions=1)]
    actions = await admin.plan(wanted)
    with pytest.raises(TopicsRefusedError, match="it has 2 partitions and 4 are declared"):
        await admin.apply(actions)
    assert [type(action) for action in await admin.plan(wanted)] == [Refuse, Create]


async def test_a_setting_the_cluster_does_not_know_is_refused_with_its_reason(
    admin: TopicAdmin, unique: Callable[[str], str]
) -> None:
    name = unique("orders")
    with pytest.raises(TopicsRefusedError, match=f"{name}: .*no.such.setting"):
        await admin.apply([Create(Topic(name=name, partitions=1, configs={"no.such.setting": "1"}))])


def test_the_command_creates_all_that_is_declared_and_then_finds_nothing_to_do(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLANE_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.chdir(tmp_path)  # no .env of the developer
    command = CliRunner()
    assert command.invoke(app, ["apply"]).exit_code == 0
    planned = command.invoke(app, ["plan", "--json"])
    assert (planned.exit_code, json.loads(planned.stdout)) == (0, [])


def test_a_catalogue_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYLANE_CATALOGUE", "nowhere:discover")
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["plan"])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("KEYLANE_CATALOGUE: nowhere:discover: ModuleNotFoundError")
