"""Judges the brokers by what keylane asks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import commit_map
from streams.doctor.finding import fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    least = _least(brokers, name, need)
    if least < need:
        return fail(name, f"{least:.0f}, {need} needed", f"set {name}={need + 96} on the brokers: commits are refused")
    return ok(name, f"{least:.0f}")


def _offsets(brokers: Sequence[Broker], kept: float) -> Finding:
    name = "offsets.retention.minutes"
    least, need = _least(brokers, name, _DAY * 7), kept / 60_000
    if least < need:
        found = f"{least / _DAY:g} days, sources keep records for {need / _DAY:g}"
        advice = f"set {name}={need:.0f}: a group that stands still for longer loses its offsets and runs all again"
        return warn(name, found, advice)
    return ok(name, f"{least / _DAY:g} days")


def _sessions(brokers: Sequence[Broker], timeout: float) -> Finding:
    low, high = "group.min.session.timeout.ms", "group.max.session.timeout.ms"
    least, most = _of(brokers, low, timeout, max), _least(brokers, high, timeout)
    found = f"KEYLANE_SESSION_TIMEOUT is {timeout:.0f} ms, the brokers allow {least:.0f} to {most:.0f}"
    if least <= timeout <= most:
        return ok("session timeout", found)
    return fail("session timeout", found, "change it, or theirs: no worker can join its group")


def _least(brokers: Sequence[Broker], name: str, default: float) -> float:
    return _of(brokers, name, default, min)


def _of(brokers: Sequence[Broker], name: str, default: float, choose: Callable[[list[float]], float]) -> float:
    return choose([float(one.configs.get(name, default)) for one in brokers])
