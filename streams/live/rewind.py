"""Reads back from the log what happened between an id and now, for whoever was away meanwhile.

One pass at a time, and each is for all who ask while the one before it runs: thousands who come back together, to
whichever gateway, cost a few passes.
Invariant: a wish is answered with everything it wants between its start and its end, or not at all (``GapError``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.live import positions
from streams.live.notice import Index
from streams.live.subscription import ROOM
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.live.notice import Interest, Notice
    from streams.live.reading import Reading
    from streams.ports import LogReader, Record

MOST = 100_000  # records between an id and now, wanted or not

Places = dict[TopicPartition, int]


class GapError(Exception):
    """What happened in between cannot be told; the message says why."""


@dataclass(slots=True, eq=False)
class _Wish:
    interest: Interest
    start: Places
    end: Places
    answer: asyncio.Future[list[Notice]]
    found: list[Notice] = field(default_factory=list)


class Rewind:
    """See the module.

    Args:
        most: Records that may lie between a start and its end.
        room: Notices one wish may be answered with.
    """

    def __init__(self, reader: LogReader, reading: Reading, *, most: int = MOST, room: int = ROOM) -> None:
        self._reader = reader
        self._reading = reading
        self._most = most
        self._room = room
        self._waiting: list[_Wish] = []
        self._task: asyncio.Task[None] | None = None

    async def between(self, interest: Interest, start: Mapping[TopicPartition, int], end: Places) -> list[Notice]:
        """What happened, in order per partition; each notice's id fits the same interest.

        Raises:
            GapError: The log has lost a part of it, or it is too much.
            TransientError: The broker or the registry is away.
        """
        begin = {place: start.get(place, 0) for place in end}  # a topic that is not in the id was made since
        if any(begin[place] > end[place] for place in end):
            raise GapError("the log does not have what the id names: a topic was made anew")
        if sum(end[place] - begin[place] for place in end) > self._most:
            raise GapError(f"more than {self._most} records lie between the id and now")
        wish = _Wish(interest, begin, dict(end), asyncio.get_running_loop().create_future())
        self._waiting.append(wish)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await wish.answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                wishes, self._waiting = self._waiting, []
                await self._answer(wishes)
        finally:
            self._task = None

    async def _answer(self, wishes: list[_Wish]) -> None:
        try:
            await self._read(await self._possible(wishes))
        except Exception as error:  # noqa: BLE001 - whatever it is, each of those who wait is told
            for wish in wishes:
                _fail(wish, error)
        for wish in wishes:
            if not wish.answer.done():
                wish.answer.set_result(wish.found)

    async def _possible(self, wishes: list[_Wish]) -> list[_Wish]:
        topics = sorted({place.topic for wish in wishes for place in wish.end})
        kept = await self._reader.starts(topics)
        for wish in wishes:
            if any(kept.get(place, 0) > at and at < wish.end[place] for place, at in wish.start.items()):
                _fail(wish, GapError("the log has deleted a part of what lies behind the id"))
        return [wish for wish in wishes if not wish.answer.done()]

    async def _read(self, wishes: list[_Wish]) -> None:
        index: Index[_Wish] = Index()
        start: Places = {}
        end: Places = {}
        for wish in wishes:
            index.add(wish.interest, wish)
            for place, at in wish.start.items():
                start[place] = min(start.get(place, at), at)
                end[place] = max(end.get(place, 0), wish.end[place])
        async for records in self._reader.read(dict(start), end):
            await self._tell(records, index, start)

    async def _tell(self, records: Sequence[Record], index: Index[_Wish], read: Places) -> None:
        for record in records:
            notice = await self._reading.notice(record, index)
            place = TopicPartition(record.topic, record.partition)
            read[place] = record.offset + 1
            for wish in index.find(notice.about) if notice is not None else ():
                if notice is not None and wish.start.get(place, 0) <= record.offset < wish.end.get(place, 0):
                    self._note(wish, notice, read)

    def _note(self, wish: _Wish, notice: Notice, read: Places) -> None:
        if len(wish.found) == self._room:
            _fail(wish, GapError(f"more than {self._room} of them lie between the id and now"))
            return
        reached = {place: min(max(read[place], at), wish.end[place]) for place, at in wish.start.items()}
        wish.found.append(notice.under(positions.encode(reached)))


def _fail(wish: _Wish, error: Exception) -> None:
    if not wish.answer.done():
        wish.answer.set_exception(error)
