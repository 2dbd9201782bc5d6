"""The faults of the demonstration: which sample records fail, how, and handlers wrapped so that they do.

Invariant: a record's fault depends on its number only, so that every group and every run sees the same.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from streams.job import Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.app.demo.ledger import Ledger
    from streams.job import Group, Work
    from streams.ports import Context


class Fault(StrEnum):
    """What is wrong with a sample record."""

    NONE = "none"
    POISON = "poison"  # its bytes are no Avro
    TWICE = "twice"  # its first two runs fail
    FOREVER = "forever"  # every run fails, until the repair


class SampleFaultError(Exception):
    """A fault of the demonstration, on purpose."""


def fault_of(number: int) -> Fault:
    """About 1 % poison, 3 % failing twice, 1 % failing for ever."""
    return {17: Fault.POISON, 29: Fault.TWICE, 53: Fault.TWICE, 71: Fault.TWICE, 83: Fault.FOREVER}.get(
        number % 100, Fault.NONE
    )


def record_id(run: str, number: int) -> str:
    """The id of a sample record."""
    return f"{run}-{number}"


def number_of(run: str, event_id: str) -> int | None:
    """The number of a sample record, None for any other."""
    head, _, tail = event_id.rpartition("-")
    return int(tail) if head == run and tail.isdigit() else None


class Faults:
    """Makes the handlers of a group fail as planned, and note what they do."""

    def __init__(self, run: str, ledger: Ledger) -> None:
        self._run = run
        self._ledger = ledger
        self.repaired = False

    def adapt(self, group: Group) -> Group:
        """The group with its handlers wrapped; batch handlers (the history) stay as they are."""
        works = {
            name: work if work.batch else replace(work, handler=self._wrapped(group.name, work))
            for name, work in group.works.items()
        }
        return replace(group, works=works)

    def _wrapped(self, group: str, work: Work) -> Callable[[Any, Any], Any]:
        async def run(payload: Any, context: Context) -> Any:
            if self._fails(context):
                self._ledger.failed(group)
                raise SampleFaultError("this sample record fails on purpose")
            outcome = await work.handler(payload, context)
            if not isinstance(outcome, Reject | Retry):
                self._ledger.done(group, context)
            return outcome

        return run

    def _fails(self, context: Context) -> bool:
        number = number_of(self._run, context.id)
        fault = Fault.NONE if number is None else fault_of(number)
        if fault is Fault.TWICE:
            return context.attempt <= 2  # noqa: PLR2004 - as its name says
        return fault is Fault.FOREVER and not self.repaired
