"""Judges settings, Redis, PostgreSQL, the registry, clocks and the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.doctor.finding import fail, ok, some, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.doctor.finding import Finding
    from streams.settings import Settings

_OLDEST_REDIS = (6, 2)
_APART, _FAR_APART = 1.0, 30.0  # seconds
_ROOM, _LITTLE_ROOM = 300 * 1024**2, 2 * 1024**3  # bytes
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Clock:
    """A server's clock: how far it is ahead of ours, in seconds, and how exactly that is known."""

    server: str
    ahead: float
    within: float


def judge_settings(settings: Settings) -> Iterator[Finding]:
    """Whether the settings agree with each other."""
    drain, rebalance = settings.drain_timeout, settings.rebalance_timeout
    found = f"KEYLANE_DRAIN_TIMEOUT {drain:g} s, KEYLANE_REBALANCE_TIMEOUT {rebalance:g} s"
    if drain < rebalance:
        yield ok("settings", found)
    else:
        yield fail("settings", found, "the drain must be the shorter one, or the group goes on without the worker")
    if settings.tier_scale != 1:
        advice = "unset it outside demonstrations"
        yield warn("settings", f"KEYLANE_TIER_SCALE is {settings.tier_scale:g}", advice)


def judge_redis(version: str, maxmemory: int, policy: str) -> Iterator[Finding]:
    """Whether Redis keeps what it is given; losing it all is allowed, losing some of it silently is not."""
    number = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if number < _OLDEST_REDIS:
        yield warn("redis version", version, "upgrade to 6.2 or newer, which is what keylane is tested with")
    else:
        yield ok("redis version", version)
    if policy != "noeviction":
        yield warn(
            "redis eviction",
            f"maxmemory-policy is {policy}",
            "set noeviction: limits, locks and marks of sent e-mails would vanish under pressure",
        )
    else:
        yield ok("redis eviction", f"noeviction, maxmemory {maxmemory // _MIB or 'unlimited'}")


def judge_database(version: str, revision: str | None, head: str) -> Finding:
    """Whether PostgreSQL has our tables as this version wants them."""
    found = f"PostgreSQL {version}, migration {revision or 'none'}"
    if revision == head:
        return ok("postgres", found)
    if revision is None:
        return warn("postgres", found, "start a gateway or a worker: it makes the tables")
    return warn("postgres", f"{found}, {head} is ours", "restart the gateway and the workers, all of one version")


def judge_registry(url: str, known: int, unknown: Sequence[str], refused: Sequence[str]) -> Iterator[Finding]:
    """Whether the registry has our contracts, and would take those that it lacks."""
    if refused:
        yield fail("registry", f"{url} refuses {some(refused)}", "see `keylane schemas register` for its reason")
    if unknown:
        yield warn("registry", f"{url} lacks {some(unknown)}", "run `keylane schemas register`")
    if not refused and not unknown:
        yield ok("registry", f"{url} has all {known} schemas")


def judge_clock(clock: Clock) -> Finding:
    """Whether a server's clock agrees with ours: due times and limits are told from them."""
    check, apart = f"clock of {clock.server}", max(0.0, abs(clock.ahead) - clock.within)
    found = f"{clock.ahead:+.3f} s from ours, ± {clock.within:.3f}"
    if apart <= _APART:
        return ok(check, found)
    advice = "let NTP set the clocks of all machines: retries run early or late, and ages are wrong"
    return (warn if apart <= _FAR_APART else fail)(check, found, advice)


def judge_disk(folder: str, free: int) -> Finding:
    """Whether the embedded servers have room."""
    found = f"{free / 1024**3:.1f} GiB free in {folder}"
    if free >= _LITTLE_ROOM:
        return ok("disk", found)
    return (warn if free >= _ROOM else fail)("disk", found, "make room, or set KEYLANE_DATA_DIR to a larger disk")
