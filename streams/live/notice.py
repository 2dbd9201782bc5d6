"""One thing that happened, who wants to know of it, and the index that brings the two together.

Invariant: what the index finds for a notice are exactly the members whose interest it meets, without asking each.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K")
M = TypeVar("M")


class Interest(NamedTuple):
    """What somebody wants to know of; None does not restrict.

    ``type`` is that of the job or event, ``key`` the whole record key.
    """

    tenant: str | None = None
    type: str | None = None
    job: str | None = None
    key: str | None = None

    def meets(self, notice: Notice) -> bool:
        """Whether the notice is one of these."""
        return all(wanted in {None, found} for wanted, found in zip(self, notice.about, strict=True))


class Notice:
    """A job's step or an event.

    Attributes:
        about: What it is about, by the fields of an ``Interest``; None where it has no such thing.
        body: The ``Status`` of a job, or an ``Event``.
        id: Whoever reads on behind this id is told everything that comes after.
        shown: For whoever shows it to many: what it made of it.
    """

    __slots__ = ("about", "body", "id", "kind", "shown")

    def __init__(self, kind: Literal["job", "event"], about: Interest, body: Any) -> None:
        self.kind = kind
        self.about = about
        self.body = body
        self.id = ""
        self.shown: Any = None


class Event(NamedTuple):
    """A domain event: its CloudEvents attributes, and its payload as a model."""

    attributes: dict[str, str]
    data: Any


class Index(Generic[M]):
    """Members by interest.

    A member stands under its interest itself. A notice is looked up under each combination of its own fields that
    some member uses: at most sixteen, however many members there are.
    """

    def __init__(self) -> None:
        self._members: dict[Interest, dict[M, None]] = {}
        self._shapes: Counter[tuple[bool, ...]] = Counter()
        self._jobs: Counter[str | None] = Counter()

    def __bool__(self) -> bool:
        return bool(self._members)

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def __iter__(self) -> Iterator[M]:
        for members in list(self._members.values()):
            yield from list(members)

    def add(self, interest: Interest, member: M) -> None:
        """Put a member in."""
        if interest not in self._members:
            self._members[interest] = {}
            self._shapes[_shape(interest)] += 1
            self._jobs[interest.job] += 1
        self._members[interest][member] = None

    def remove(self, interest: Interest, member: M) -> None:
        """Take it out, if it is in."""
        found = self._members.get(interest, {})
        found.pop(member, None)
        if not found and self._members.pop(interest, None) is not None:
            _one_less(self._shapes, _shape(interest))
            _one_less(self._jobs, interest.job)

    def find(self, about: Interest) -> list[M]:
        """Who wants to know of this."""
        found: list[M] = []
        for shape in self._shapes:
            under = Interest(*(field if used else None for used, field in zip(shape, about, strict=True)))
            if _shape(under) == shape:  # else it lacks what they ask for
                found += self._members.get(under, ())
        return found

    def may_want(self, job: str) -> bool:
        """Whether anybody may want to know of a job of which no more than its id is known."""
        return None in self._jobs or job in self._jobs


def _shape(interest: Interest) -> tuple[bool, ...]:
    return tuple(field is not None for field in interest)


def _one_less(counts: Counter[K], name: K) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
