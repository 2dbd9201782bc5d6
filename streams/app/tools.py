"""Wires what commands need that run once: no more than each of them uses, closed when the command ends."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streams.adapters import sql
from streams.adapters.audit import SqlAudit
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.keys import SqlKeys
from streams.app.access import vault_of
from streams.audit import Act
from streams.catalogue import load_catalogue
from streams.deadletters.entry import families
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.deadletters.writing import Clock
from streams.groups import groups
from streams.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.adapters.vault import Vault
    from streams.settings import Settings


@asynccontextmanager
async def publisher(settings: Settings) -> AsyncIterator[KafkaPublisher]:
    """A connected publisher.

    Raises:
        TransientError: No broker can be reached.
    """
    found = KafkaPublisher(client_options(settings))
    try:
        await found.start()
        yield found
    finally:
        await found.stop()


@asynccontextmanager
async def codec(settings: Settings) -> AsyncIterator[Codec]:
    """A codec over all contracts, with the registry of the settings (else the gateway's)."""
    registry = RegistryClient(settings.registry_url)
    try:
        yield Codec(registry, contracts(), max_bytes=settings.max_body_bytes)
    finally:
        await registry.close()


def dead_letters(settings: Settings) -> DeadLetters:
    """The dead letters of all groups this deployment declares.

    Raises:
        CatalogueError: The declarations cannot be loaded.
    """
    declared = families(groups(load_catalogue(settings)))
    return DeadLetters(KafkaLogReader(client_options(settings)), declared, max_replays=settings.max_replays)


@asynccontextmanager
async def operations(settings: Settings) -> AsyncIterator[Operations]:
    """What carries out replays and discards.

    Raises:
        CatalogueError: The declarations cannot be loaded.
        TransientError: No broker can be reached.
    """
    letters = dead_letters(settings)
    async with publisher(settings) as found:
        clock = Clock(time.time, time.monotonic, asyncio.sleep)
        yield Operations(letters, found, clock, by=operator(), ended=has_ended)


@asynccontextmanager
async def keyring(settings: Settings) -> AsyncIterator[tuple[SqlKeys, SqlAudit, Vault]]:
    """The API keys and the audit trail, straight from the database, which is brought to the newest version.

    Raises:
        SettingsError: There are no master keys, or no database.
        TransientError: The database is away.
    """
    vault = vault_of(settings)
    if vault is None:
        raise SettingsError("KEYLANE_SECRET_KEYS: keys and audit need it; 'keylane keys secret' makes a new one")
    if settings.database_url is None:
        raise SettingsError("KEYLANE_DATABASE_URL: name a server, or start the embedded one (keylane dev up)")
    engine = sql.connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        await sql.migrate(engine)
        audit = SqlAudit(engine, vault)
        yield SqlKeys(engine, audit), audit, vault
    finally:
        await engine.dispose()


async def told(settings: Settings, what: str, target: str, **facts: Any) -> None:
    """Write down what an operator is about to do, where there are master keys; ``facts`` as ``Act`` has them.

    Raises:
        SettingsError: There is no database to write it to.
        TransientError: The database is away: it must not be done.
    """
    if settings.secret_keys is not None:
        async with keyring(settings) as (_, audit, _vault):
            await audit.record(Act(who=operator(), what=what, target=target, source="cli", **facts))


def log_reader(settings: Settings) -> KafkaLogReader:
    """What reads topics."""
    return KafkaLogReader(client_options(settings))


def operator() -> str:
    """Who runs this command, ``<user>@<host>:<process>``."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{os.getpid()}"


def has_ended(name: str) -> bool:
    """Whether the process of that operator is known to have ended, which only its own host can tell."""
    host, _, process = name.rpartition("@")[2].rpartition(":")
    if host != socket.gethostname() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's, or no process at all
        return False
    return False
