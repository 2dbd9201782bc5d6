"""The broker's side of a consumer group: members, generations, eager rebalances by range, commits.

As Kafka's classic protocol: members that do not come back within the rebalance time-out are left out, those without a
heartbeat within the session time-out are expelled, and a static member that comes back takes its old place.
Joining and being told the assignment are one step here; a commit in between is refused by a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.job import TransientError
from streams.ports import OwnershipLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulation.broker import Broker

    Reply = Callable[[object], None]

SESSION = 3.0  # seconds, as are all times here
HEARTBEAT = 1.0
REBALANCE = 4.0


class UnknownMemberError(Exception):
    """The group has expelled this member."""


@dataclass(eq=False)
class Member:
    id: str
    instance: str | None
    expires: float
    partitions: tuple[int, ...] = ()
    reply: Reply | None = None  # it waits for the others
    fenced: bool = False  # another process has its instance's name


@dataclass
class Coordinator:
    broker: Broker
    partitions: int
    now: Callable[[], float]
    note: Callable[[str], None]
    members: dict[str, Member] = field(default_factory=dict)
    gone: dict[str, Member] = field(default_factory=dict)
    generation: int = 0
    closes: float | None = None  # when the rebalance under way goes on without those who are missing
    away: bool = False
    _count: int = 0

    def join(self, member_id: str | None, instance: str | None, reply: Reply) -> None:
        member = self.members.get(member_id or "") or self._returning(instance)
        if member is not None and member.id != member_id and self.closes is None:
            reply((member.id, self.generation, member.partitions))  # a static member is back: nothing moves
            return
        if member is None:
            member = self._new(instance)
        member.reply, member.partitions = reply, ()
        if self.closes is None:
            self.closes = self.now() + REBALANCE
            self.note(f"rebalance begins for {member.id}")
        self._complete_if_all_are_here()

    def _new(self, instance: str | None) -> Member:
        self._count += 1
        member = Member(f"m{self._count}", instance, self.now() + SESSION)
        self.members[member.id] = member
        return member

    def _returning(self, instance: str | None) -> Member | None:
        old = next((m for m in self.members.values() if instance is not None and m.instance == instance), None)
        if old is None:
            return None
        partitions = old.partitions
        self._remove(old)
        old.fenced = True
        new = self._new(instance)
        new.partitions = partitions
        return new

    def rebalance(self) -> None:
        """Ask everybody to join anew."""
        if self.members and self.closes is None:
            self.closes = self.now() + REBALANCE

    def _complete_if_all_are_here(self) -> None:
        if self.closes is not None and all(member.reply for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        self.closes = None
        for member in [m for m in self.members.values() if m.reply is None]:
            self._remove(member)
        self.generation += 1
        count = len(self.members)
        for index, member in enumerate(sorted(self.members.values(), key=lambda m: m.id)):
            share, more = divmod(self.partitions, count)
            first = index * share + min(index, more)
            member.partitions = tuple(range(first, first + share + (index < more)))
            member.expires = self.now() + SESSION
            assert member.reply is not None
            reply, member.reply = member.reply, None
            reply((member.id, self.generation, member.partitions))
        owners = {m.id: m.partitions for m in self.members.values()}
        self.note(f"generation {self.generation}: {owners}")

    def _remove(self, member: Member) -> None:
        del self.members[member.id]
        self.gone[member.id] = member
        member.partitions = ()

    def leave(self, member_id: str) -> None:
        member = self.members.get(member_id)
        if member is not None and member.instance is None:
            self.expel(member)

    def expel(self, member: Member) -> None:
        self.note(f"{member.id} is out of the group")
        self._remove(member)
        self.rebalance()
        self._complete_if_all_are_here()

    def look(self) -> None:
        """Time went by."""
        now = self.now()
        for member in list(self.members.values()):
            if member.expires < now and member.reply is None:
                self.expel(member)
        if self.closes is not None and self.closes < now:
            if any(member.reply for member in self.members.values()):
                self._complete()
            else:
                self.closes = now + REBALANCE

    def heartbeat(self, member_id: str, generation: int) -> bool:
        """Whether the member may stay as it is; False: a rebalance is under way."""
        self._check_here()
        member = self.members.get(member_id)
        if member is None or generation != self.generation:
            raise UnknownMemberError(member_id)
        member.expires = self.now() + SESSION
        return self.closes is None

    def commit(self, member_id: str, generation: int, offsets: Mapping[tuple[int, int], tuple[int, str]]) -> None:
        self._check_here()
        if member_id in self.gone and self.gone[member_id].fenced:
            raise TransientError("fenced instance id")  # aiokafka knows no name for this code
        member = self.members.get(member_id)
        if member is None or generation != self.generation:
            raise OwnershipLostError("unknown member or illegal generation")
        member.expires = self.now() + SESSION
        self.broker.commit(offsets)

    def _check_here(self) -> None:
        if self.away:
            raise TransientError("the coordinator is away")
