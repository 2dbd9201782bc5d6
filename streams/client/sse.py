"""Reads a stream of server-sent events (HTML standard, 9.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Event(NamedTuple):
    """One event; ``id`` is that of the latest event that had one."""

    id: str
    type: str
    data: str


class Reader:
    """Makes events of lines; ``last_id`` is where to go on after the connection broke."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._type = ""
        self._data: list[str] = []

    def read(self, line: str) -> Iterator[Event]:
        """Take a line without its end; gives the event it completes, if any."""
        if not line:
            if self._data:
                yield Event(self.last_id, self._type or "message", "\n".join(self._data))
            self._type, self._data = "", []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
