"""A sample load for demonstrations and benchmarks: reservations and sign-ins of three tenants, without faults.

Invariant: equal arguments give equal records; each reservation's events come in order, and no user signs in more than
``SIGNINS_PER_USER`` times, which is below the hourly limit of e-mails.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from schemas.notification_signin.model import CONTRACT as SIGNIN
from schemas.notification_signin.model import Signin
from schemas.reservation_cancelled.model import CONTRACT as CANCELLED
from schemas.reservation_cancelled.model import Cancelled
from schemas.reservation_confirmed.model import CONTRACT as CONFIRMED
from schemas.reservation_confirmed.model import Confirmed
from schemas.reservation_held.model import CONTRACT as HELD
from schemas.reservation_held.model import Held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from schemas.contract import Contract

TENANTS = ("steppe", "gobi", "altai")
SIGNINS_PER_USER = 5
# Far ahead: no hold of a sample load runs out while it is looked at.
START = datetime(2030, 1, 1, tzinfo=UTC)

_OPEN = 50  # reservations whose events are mixed with each other's
_USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0",
)


class Sample(NamedTuple):
    """A record to publish under the key ``<tenant>/<entity>``."""

    contract: Contract
    payload: BaseModel
    tenant: str
    entity: str


def sample_load(seed: int, records: int) -> Iterator[Sample]:
    """Yield exactly ``records`` samples: about a third sign-ins, the rest reservations held and then ended."""
    draw = random.Random(seed)  # noqa: S311 - a sample, not a secret
    signins, reservations = _signins(draw, seed), _reservations(draw, seed)
    for _ in range(records):
        yield next(signins if draw.random() < 1 / 3 else reservations)


def _signins(draw: random.Random, seed: int) -> Iterator[Sample]:
    user = 0
    while True:
        user += 1
        tenant, entity = draw.choice(TENANTS), f"user-{seed}-{user}"
        for turn in range(draw.randint(1, SIGNINS_PER_USER)):
            yield Sample(SIGNIN, _signin(draw, entity, START + timedelta(minutes=user, seconds=turn)), tenant, entity)


def _signin(draw: random.Random, user: str, when: datetime) -> Signin:
    return Signin(
        user_id=user,
        email=f"{user}@example.com",
        name=user.replace("-", " ").title(),
        provider=draw.choice(("google", "facebook", "password")),
        ip_address=f"203.0.113.{draw.randint(1, 254)}",
        user_agent=draw.choice(_USER_AGENTS),
        timestamp=when,
        locale=draw.choice(("mn", "mn", "en")),
    )


def _reservations(draw: random.Random, seed: int) -> Iterator[Sample]:
    number = 0
    held: list[Sample] = []
    while True:
        if not held or (len(held) < _OPEN and draw.random() < 1 / 2):
            number += 1
            held.append(_hold(draw, f"reservation-{seed}-{number}", START + timedelta(hours=number)))
            yield held[-1]
        else:
            yield _ending(draw, held.pop(draw.randrange(len(held))))


def _hold(draw: random.Random, reservation: str, starts_at: datetime) -> Sample:
    customer = f"customer-{draw.randint(1, 500)}"
    payload = Held(
        reservation_id=reservation,
        resource_id=f"court-{draw.randint(1, 20)}",
        customer_email=f"{customer}@example.com",
        customer_name=customer.title(),
        starts_at=starts_at,
        ends_at=starts_at + timedelta(hours=2),
        quantity=draw.randint(1, 4),
        expires_at=START + timedelta(minutes=15),
    )
    return Sample(HELD, payload, draw.choice(TENANTS), reservation)


def _ending(draw: random.Random, held: Sample) -> Sample:
    same = held.payload.model_dump(exclude={"expires_at"})
    if draw.random() < 1 / 4:
        return Sample(CANCELLED, Cancelled(**same, reason="changed plans"), held.tenant, held.entity)
    return Sample(CONFIRMED, Confirmed(**same), held.tenant, held.entity)
