"""Where the servers of a running stack answer, and settings that say so.

    settings = attach(settings)     # of a stack that runs already (keylane dev up); starts nothing

Invariant: a server that the settings name themselves is never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from streams.dev import ports, postgres, state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Addresses:
    """One address per server; None for a part that is not embedded."""

    kafka_bootstrap_servers: str | None = None
    redis_url: str | None = None
    database_url: str | None = None

    @classmethod
    def of(cls, listening: Mapping[str, int]) -> Addresses:
        """The addresses of the servers that listen on these ports."""
        kafka, redis, database = (listening.get(name) for name in ("kafka", "redis", "postgres"))
        return cls(
            kafka_bootstrap_servers=f"{ports.HOST}:{kafka}" if kafka else None,
            redis_url=f"redis://{ports.HOST}:{redis}/0" if redis else None,
            database_url=postgres.url(database) if database else None,
        )

    def fill(self, settings: Settings) -> Settings:
        """The settings with these addresses where they name no server of their own."""
        database = SecretStr(self.database_url) if self.database_url else None
        return settings.model_copy(
            update={
                "kafka_bootstrap_servers": settings.kafka_bootstrap_servers or self.kafka_bootstrap_servers,
                "redis_url": settings.redis_url or self.redis_url,
                "database_url": settings.database_url or database,
            }
        )


def attach(settings: Settings) -> Settings:
    """The settings with the addresses of the stack that runs on their data folder; unchanged where none runs.

    Raises:
        StackError: One runs, but its state file is damaged.
    """
    found = state.running(settings.data_dir)
    return Addresses.of(found.ports).fill(settings) if found else settings
