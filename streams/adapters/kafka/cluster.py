"""What a cluster is like: its brokers with their settings, and topics with what is in force for them.

Invariant: looking changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import ApiVersionRequest

from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker: its settings, and the highest version of each API, by the API's number."""

    id: int
    configs: Mapping[str, str]
    apis: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic: its settings, the broker's defaults included, and its replicas.

    Attributes:
        replicas: Of the partition that has the fewest.
        lagging: Partitions with a replica that is not in sync.
        leaderless: Partitions that nobody serves.
    """

    name: str
    partitions: int
    replicas: int
    lagging: int
    leaderless: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """See the module."""

    brokers: tuple[Broker, ...]
    topics: Mapping[str, TopicFacts]


async def look(options: Mapping[str, Any], names: Collection[str]) -> Cluster:
    """The cluster and those of the topics that exist.

    Raises:
        TransientError: No broker can be reached, or it tells nothing of itself.
    """
    admin = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        ids = [broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]]
        configs = await _configs(admin, ConfigResourceType.BROKER, [str(number) for number in ids])
        brokers = [Broker(number, configs[str(number)], await _apis(admin, number)) for number in ids]
        described = [topic for topic in await admin.describe_topics() if topic["topic"] in names]
        settings = await _configs(admin, ConfigResourceType.TOPIC, [topic["topic"] for topic in described])
    except KafkaError as error:
        raise TransientError(f"Kafka cannot be looked at: {type(error).__name__}: {error}") from error
    finally:
        await admin.close()
    return Cluster(tuple(brokers), {t["topic"]: _facts(t, settings[t["topic"]]) for t in described})


async def _configs(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(kind, name) for name in names]
    answers = await admin.describe_configs(asked) if asked else []
    found = {}
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:  # a client without the right to look is told so here, not by an error of the request
                raise for_code(code)(f"{name}: {message}")
            found[name] = {key: value for key, value, *_ in entries if value is not None}
    return found


async def _apis(admin: AIOKafkaAdminClient, broker: int) -> dict[int, int]:
    # The admin client knows no public way to ask for it, and a broker does not tell its release.
    answer = await admin._client.send(broker, ApiVersionRequest())  # noqa: SLF001 - see above
    return {api: highest for api, _, highest in answer.api_versions}


def _facts(described: Mapping[str, Any], configs: Mapping[str, str]) -> TopicFacts:
    partitions = described["partitions"]
    return TopicFacts(
        name=described["topic"],
        partitions=len(partitions),
        replicas=min(len(one["replicas"]) for one in partitions),
        lagging=sum(len(one["isr"]) < len(one["replicas"]) for one in partitions),
        leaderless=sum(one["leader"] < 0 for one in partitions),
        configs=configs,
    )
