"""Judges the brokers by what keylane asks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import commit_map
from streams.doctor.finding import fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.adapters.kafka.cluster import Broker
    from streams.doctor.finding import Finding
    from streams.settings import Settings

_JOIN_GROUP, _STATIC = 11, 5  # the API, and the version that knows static members (Kafka 2.3)
_DAY = 1_440  # minutes
_SPREAD = 3  # brokers among which a record can be kept safe


def judge_brokers(brokers: Sequence[Broker], settings: Settings, kept: float) -> Iterator[Finding]:
    """All there is to say of the brokers; ``kept``: milliseconds that sources keep their records, at most."""
    yield _versions(brokers)
    yield _replication(len(brokers), settings.replication_factor)
    yield _metadata(brokers)
    yield _offsets(brokers, kept)
    yield _sessions(brokers, settings.session_timeout * 1000)


def _versions(brokers: Sequence[Broker]) -> Finding:
    check, old = "kafka version", [str(one.id) for one in brokers if one.apis.get(_JOIN_GROUP, 0) < _STATIC]
    if old:
        return fail(check, f"broker {', '.join(old)} knows no static members", "upgrade to Kafka 2.3 or newer")
    return ok(check, f"{len(brokers)} brokers, JoinGroup up to version {min(one.apis[_JOIN_GROUP] for one in brokers)}")


def _replication(brokers: int, factor: int) -> Finding:
    check, found = "replication", f"{factor} replicas wanted, {brokers} brokers"
    if factor > brokers:
        return fail(check, found, f"add brokers, or set KEYLANE_REPLICATION_FACTOR to {brokers} or less")
    if brokers >= _SPREAD > factor:
        return warn(check, found, f"set KEYLANE_REPLICATION_FACTOR={_SPREAD}: a lost disk loses records otherwise")
    return ok(check, found)


def _metadata(brokers: Sequence[Broker]) -> Finding:
    name, need = "offset.metadata.max.bytes", commit_map.LIMIT
    told = _told(brokers, name)
    if not told:
        return _silent(name, f"at least {need}")
    if min(told) < need:
        return fail(name, f"{min(told)}, {need} needed", f"set {name}={need + 96} on the brokers: commits are refused")
    return ok(name, str(min(told)))


def _offsets(brokers: Sequence[Broker], kept: float) -> Finding:
    name, need = "offsets.retention.minutes", kept / 60_000
    told = _told(brokers, name)
    if not told:
        return _silent(name, f"at least {need:.0f}")
    if min(told) < need:
        found = f"{min(told) / _DAY:g} days, sources keep records for {need / _DAY:g}"
        advice = f"set {name}={need:.0f}: a group that stands still for longer loses its offsets and runs all again"
        return warn(name, found, advice)
    return ok(name, f"{min(told) / _DAY:g} days")


def _sessions(brokers: Sequence[Broker], timeout: float) -> Finding:
    low, high = (_told(brokers, f"group.{end}.session.timeout.ms") for end in ("min", "max"))
    if not low or not high:
        return _silent("session timeout", f"about {timeout:.0f} ms")
    found = f"KEYLANE_SESSION_TIMEOUT is {timeout:.0f} ms, the brokers allow {max(low)} to {min(high)}"
    if max(low) <= timeout <= min(high):
        return ok("session timeout", found)
    return fail("session timeout", found, "change it, or theirs: no worker can join its group")


def _told(brokers: Sequence[Broker], name: str) -> list[int]:
    """What each broker has, or nothing where one of them does not tell."""
    values = [one.configs.get(name) for one in brokers]
    return [int(value) for value in values if value is not None] if None not in values else []


def _silent(name: str, need: str) -> Finding:
    return warn(name, "the brokers do not tell it", f"make sure that they allow {need}")
