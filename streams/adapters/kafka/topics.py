"""Looks at the topics of a cluster and carries out a plan, through aiokafka's admin client.

    admin = TopicAdmin(client_options(settings))
    actions = await admin.plan(wanted(catalogue, contracts, settings.replication_factor))
    await admin.apply(actions)

Invariant: a plan with a refusal changes nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.job import TransientError
from streams.topics import Configure, Create, Refuse, Topic, plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from streams.topics import Action

_SET_ON_TOPIC = 1  # config source DYNAMIC_TOPIC_CONFIG of DescribeConfigs


class TopicsRefusedError(Exception):
    """The plan cannot be carried out, or the cluster refused a part of it; the message says which and why."""


class TopicAdmin:
    """Plans and applies topics.

    Args:
        options: As from ``client_options``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    async def plan(self, wanted: Sequence[Topic]) -> list[Action]:
        """What to do so that the cluster has these topics.

        Raises:
            TransientError: No broker can be reached.
        """
        async with self._client() as client:
            return plan(wanted, await _existing(client, {topic.name for topic in wanted}))

    async def apply(self, actions: Sequence[Action]) -> None:
        """Carry the plan out; a topic that appeared meanwhile is left as it is.

        Raises:
            TopicsRefusedError: The plan holds a refusal (nothing was changed), or the cluster refused a part.
            TransientError: No broker can be reached.
        """
        refusals = [str(action) for action in actions if isinstance(action, Refuse)]
        if refusals:
            raise TopicsRefusedError("; ".join(refusals))
        async with self._client() as client:
            await _create(client, [action.topic for action in actions if isinstance(action, Create)])
            await _configure(client, [action for action in actions if isinstance(action, Configure)])

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AIOKafkaAdminClient]:
        client = AIOKafkaAdminClient(**self._options)
        try:
            await client.start()
            yield client
        except KafkaError as error:
            raise TransientError(f"Kafka cannot be reached: {type(error).__name__}: {error}") from error
        finally:
            await client.close()


async def _existing(client: AIOKafkaAdminClient, names: set[str]) -> list[Topic]:
    described = [topic for topic in await client.describe_topics() if topic["topic"] in names]
    configs = await _configs(client, [topic["topic"] for topic in described])
    return [
        Topic(name=topic["topic"], partitions=len(topic["partitions"]), configs=configs[topic["topic"]])
        for topic in described
    ]


async def _configs(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await client.describe_configs(asked) if asked else []
    return {
        name: {key: value for key, value, _, source, *_ in entries if source == _SET_ON_TOPIC}
        for answer in answers
        for _, _, _, name, entries in answer.resources
    }


async def _create(client: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    if not topics:
        return
    answer = await client.create_topics(
        [
            NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.configs))
            for topic in topics
        ]
    )
    _refuse_errors(
        (name, code, message) for name, code, message in answer.topic_errors if code != TopicAlreadyExistsError.errno
    )


async def _configure(client: AIOKafkaAdminClient, actions: Sequence[Configure]) -> None:
    if not actions:
        return
    # The request replaces all that is set on a topic, so what stands goes along.
    standing = await _configs(client, [action.name for action in actions])
    answers = await client.alter_configs(
        [
            ConfigResource(ConfigResourceType.TOPIC, action.name, {**standing[action.name], **action.configs})
            for action in actions
        ]
    )
    _refuse_errors((name, code, message) for answer in answers for code, message, _, name in answer.resources)


def _refuse_errors(results: Iterable[tuple[str, int, str | None]]) -> None:
    refused = [f"{name}: {message or for_code(code).__name__}" for name, code, message in results if code]
    if refused:
        raise TopicsRefusedError("; ".join(refused))
