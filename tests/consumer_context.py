"""What a handler is given, with fakes for what a test does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from streams.ports import Context, Position, Services
from tests.simulation.broker import Rec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.ports import Email

OPTIONS = {"signin_mails_per_hour": 10}


class Outbox:
    """An e-mail transport that keeps what it is given; each of ``faults`` is raised once, first."""

    def __init__(self, *faults: Exception) -> None:
        self.sent: list[Email] = []
        self.faults: list[Exception] = list(faults)

    async def send(self, email: Email) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.sent.append(email)


class Nothing:
    """Stands for a service the handler must not touch."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the handler used .{name} of a service it does not need")


async def no_emit(*_: object, **__: object) -> Position:
    raise AssertionError("the handler emitted")


def services(**given: Any) -> Services:
    nothing = cast("Any", Nothing())
    defaults: dict[str, Any] = {
        "mail": nothing,
        "redis": nothing,
        "sql": nothing,
        "log_reader": nothing,
        "group_offsets": nothing,
    }
    return Services(**{**defaults, "emit": no_emit, "options": OPTIONS, **given})


class Given(Context):
    """A context whose idempotency key is the record's id alone."""

    __slots__ = ()

    @property
    def idempotency_key(self) -> str:
        return self.id


def context(services: Services, *, record_id: str, tenant: str = "steppe", entity: str = "user-1") -> Context:
    key = f"{tenant}/{entity}".encode() if tenant else None
    record = Rec("a-topic", 0, 0, 0, key, b"", (("ce_id", record_id.encode()),))
    return Given(record, "", "", 1, services)


def only(things: Sequence[Any]) -> Any:
    (thing,) = things
    return thing
