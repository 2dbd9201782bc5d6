"""One consumer group in one process: feeds the core with what happens and carries out what it says.

Invariant: nothing runs before the partitions are restored and the first commit is acknowledged; nothing of an
ownership that has ended is reported to the core.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from streams.core import headers
from streams.core.commands import Append, DeadLetter, Fetch, Pause, Resume, Start
from streams.core.group import Core, Limits
from streams.engine.appender import Appender
from streams.engine.committer import Committer
from streams.engine.crew import Crew
from streams.engine.messages import moved_message
from streams.engine.outofrange import gaps_behind
from streams.engine.takeover import read_in_portions
from streams.engine.watchdog import Watchdog
from streams.job import TransientError
from streams.ports import OutOfRangeError, OwnershipLostError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.core.commands import Command
    from streams.core.gaps import Gap
    from streams.core.lanes import Lanes
    from streams.engine.crew import Ended
    from streams.engine.family import Family
    from streams.engine.runner import Runner
    from streams.engine.telemetry import Telemetry
    from streams.ports import BatchWriter, GroupConsumer, LogReader, Record

log = structlog.get_logger(__name__)

_POLL = 0.2  # seconds a poll waits for records
_POLL_SOME = 0.005  # the same while there is no room for some partitions
_AGAIN = 0.5  # seconds between tries while the cluster is away


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Times in seconds."""

    commit_interval: float = 0.1
    drain_timeout: float = 10.0
    stall_timeout: float = 60.0
    aliases: bool = True


class Engine:
    """See the module.

    Args:
        clock: Seconds since the epoch.
        monotonic: Seconds that never go back.
        new_name: Gives the name of an ownership, which none before it had and none after it will.
    """

    def __init__(
        self,
        family: Family,
        tiers: tuple[float, ...],
        limits: Limits,
        options: EngineOptions,
        *,
        consumer: GroupConsumer,
        reader: LogReader,
        writer: BatchWriter,
        runner: Runner,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        new_name: Callable[[], str] = lambda: uuid.uuid4().hex[:16],
    ) -> None:
        self.core = Core(tiers, limits)
        self.epoch = 0
        self._family = family
        self._options = options
        self._consumer = consumer
        self._reader = reader
        self._writer = writer
        self._runner = runner
        self._telemetry = telemetry
        self._clock = clock
        self._new_name = new_name
        self._mover = ""
        self._appender = Appender(writer, self._appended, self._append_failed)
        self._committer = Committer(self, family, consumer, telemetry, clock, options.drain_timeout)
        self._watchdog = Watchdog(self, family, consumer, reader, telemetry, clock, options.stall_timeout)
        self._crew = Crew(runner.begin, self._ended, self._broken, monotonic)
        self._fetches: dict[asyncio.Task[None], None] = {}
        self._idle = asyncio.Event()
        self._assigned = asyncio.Event()
        self._rebuild: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self.progress = clock()
        self.ready = asyncio.Event()  # partitions (perhaps none) are taken over

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Join the group and work until :meth:`stop` or cancellation.

        Raises:
            CoPartitionError: The family's topics are not partitioned alike.
        """
        await self._join()
        commits = asyncio.create_task(self._committer.run(self._options.commit_interval))
        watch = asyncio.create_task(self._watchdog.run())
        try:
            while not self._stopping:
                await self._turn_or_rebuild()
        finally:
            watch.cancel()
            await self._give_up_ownership()
            commits.cancel()
            await asyncio.gather(watch, commits, return_exceptions=True)
            await self._consumer.stop()

    def rebuild(self, reason: str) -> None:
        """Give up the ownership and take it over again with a new consumer and writer."""
        self._rebuild = reason
        self._idle.set()

    def stop(self) -> None:
        """Let :meth:`run` drain, commit and end."""
        self._stopping = True

    async def _join(self) -> None:
        while not self._stopping:
            try:
                await self._consumer.start(self._give_up_ownership, self._assigned.set)
            except TransientError as error:
                log.warning("cannot join yet", group=self._family.group, reason=str(error))
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _turn_or_rebuild(self) -> None:
        """Turn once; a cancellation nobody asked this task for came out of a client, and is no reason to end."""
        try:
            await self._turn()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.exception("a client let its own cancellation out", group=self._family.group)
            self.rebuild("a client let its own cancellation out")
            await asyncio.sleep(_AGAIN)

    async def _turn(self) -> None:
        """Poll once; take over or rebuild first where that is due."""
        if self._rebuild is not None:
            await self._build_anew()
        if self._assigned.is_set():
            await self._take_over()
        try:
            batches = await self._poll()
        except OutOfRangeError as error:
            await self._read_on(error.positions)
            return
        except (TransientError, OwnershipLostError) as error:
            log.warning("cannot poll", group=self._family.group, reason=str(error))
            await asyncio.sleep(_AGAIN)
            return
        if self._assigned.is_set() or not batches:
            return  # what was fetched for an ownership that has ended is fetched again by the next
        now = self._clock()
        for (topic, partition), records in batches.items():
            self.core.polled(partition, self._family.shelves[topic], records, now)
        self.progress = now
        self.pump()
        await asyncio.sleep(0)  # a full prefetch buffer would never let the runs start

    async def _poll(self) -> Mapping[TopicPartition, Sequence[Record]]:
        """Leave with the client what there is no room for, and look again soon."""
        full = self.core.full()
        if not full:
            return await self._consumer.poll(_POLL)
        left = {self._family.place(partition, shelf) for partition, shelf in full}
        wanted = self._consumer.assignment() - left
        if wanted:
            return await self._consumer.poll(_POLL_SOME, wanted)
        await asyncio.sleep(_POLL_SOME)
        return {}

    async def _read_on(self, lost: Mapping[TopicPartition, int]) -> None:
        """Read on behind what the log has lost."""
        epoch = self.epoch
        try:
            gaps = await gaps_behind(self._family, self.core, self._reader, lost)
        except TransientError as error:
            log.warning("cannot look for what the log has left", group=self._family.group, reason=str(error))
            await asyncio.sleep(_AGAIN)
            return
        if epoch != self.epoch:
            return
        if gaps is None:
            self.rebuild("the log lost records that others wait for")
            return
        for place, gap in gaps.items():
            self._telemetry.jumped(place, gap)
            self.core.dropped(place.partition, lost[place], gap.begin)
            self._consumer.seek(place, gap.begin)
        if not gaps:
            await asyncio.sleep(_AGAIN)

    # -- ownership -------------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        self._assigned.clear()
        epoch = self.epoch
        owned = self._family.partitions(self._consumer.assignment())
        mover = self._new_name()
        try:
            restored, gaps = await self._restored(owned, mover)
        except (TransientError, OwnershipLostError) as error:
            log.warning("cannot restore yet", group=self._family.group, reason=str(error))
            await asyncio.sleep(_AGAIN)
            if epoch == self.epoch:
                self._assigned.set()
            return
        if epoch != self.epoch:
            return
        self._mover = mover
        for lanes in restored:
            self.core.own(lanes)
            self._position(lanes)
        for place, gap in gaps.items():
            self._telemetry.jumped(place, gap)
        self._telemetry.rebalanced(len(owned))
        self.progress = self._clock()
        await self._committer.commit()
        self.ready.set()

    async def _restored(self, partitions: Sequence[int], mover: str) -> tuple[list[Lanes], dict[TopicPartition, Gap]]:
        restored: list[Lanes] = []
        gaps: dict[TopicPartition, Gap] = {}
        if not partitions:
            return restored, gaps
        async for found in read_in_portions(self._family, partitions, self._consumer, self._reader):
            restored += [self.core.restored(number, shelves, mover) for number, shelves in found.shelves.items()]
            gaps |= found.gaps
            del found  # it may be large, and the next one is read now
        return restored, gaps

    def _position(self, lanes: Lanes) -> None:
        for shelf, track in lanes.tracks.items():
            place = self._family.place(lanes.partition, shelf)
            self._consumer.seek(place, track.position)
            (self._consumer.pause if shelf == headers.DLT else self._consumer.resume)([place])

    async def _give_up_ownership(self, lost: bool = False) -> None:
        """Bring to an end what runs, unless it is ``lost``: another owner runs it again; forget everything."""
        self.core.stop()
        self.ready.clear()
        self._assigned.clear()  # an assignment not taken over yet is none any more
        if lost:
            await self._cancel()
        else:
            await self._hand_over()
        self.epoch += 1
        self.core.revoked()
        await self._appender.reset()

    async def _hand_over(self) -> None:
        """Finish what runs, up to the deadline; cancel the rest; commit once."""
        until = asyncio.get_running_loop().time() + self._options.drain_timeout
        drained = await self._drain(until)
        await self._committer.commit()
        if drained and not self.core.drained:  # moves that the commit has let go
            await self._drain(until)
            await self._committer.commit()

    async def _drain(self, until: float) -> bool:
        """Whether everything came to its end in time; nothing runs any more."""
        self._idle.clear()
        self.pump()
        try:
            async with asyncio.timeout_at(until):
                while not self.core.drained and self._rebuild is None:
                    await self._idle.wait()
                    self._idle.clear()
        except TimeoutError:
            log.warning(
                "drain deadline passed; runs are cancelled", group=self._family.group, runs=len(self.core.running)
            )
        drained = self.core.drained
        await self._cancel()
        return drained

    async def _cancel(self) -> None:
        """Nothing runs any more."""
        for fetch in list(self._fetches):
            fetch.cancel()
        await self._crew.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    async def _build_anew(self) -> None:
        self._telemetry.rebuilt(self._rebuild or "")
        await self._give_up_ownership()
        try:
            await self._writer.renew()
            await self._consumer.stop()
            await self._join()
        except TransientError as error:
            log.warning("cannot rebuild yet", group=self._family.group, reason=str(error))
            await asyncio.sleep(_AGAIN)
            return
        self._rebuild = None

    # -- carrying out ----------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Carry out everything the core wants done now."""
        for command in self.core.take_commands(self._clock()):
            self._carry_out(command)
        self._telemetry.tally()
        if self.core.drained:
            self._idle.set()
        self._arm_timer()

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Start):
            self._crew.take(command.runs)
        elif isinstance(command, Append | DeadLetter):
            self._append(command)
        elif isinstance(command, Pause):
            self._consumer.pause([self._family.place(command.partition, command.shelf)])
        elif isinstance(command, Resume):
            self._consumer.resume([self._family.place(command.partition, command.shelf)])
        elif isinstance(command, Fetch):
            self._spawn(self._fetch(command, self.epoch))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._fetches[task] = None
        task.add_done_callback(self._fetches.pop)

    def _ended(self, ended: Ended) -> None:
        now = self.progress = self._clock()
        for run, results in ended:
            self.core.finished(run, results, now)
        self.pump()

    def _broken(self, error: BaseException) -> None:
        # Not the handler's fault: those are results. Start over rather than leave a key without an end.
        log.error("a run ended without a result", group=self._family.group, exc_info=error)
        self.rebuild("a run ended without a result")

    def _append(self, move: Append | DeadLetter) -> None:
        partition = move.entry.lane.lanes.partition
        target = self._family.place(partition, move.level.tier)
        self._telemetry.moved(move)
        self._appender.append(target, move, moved_message(move, target, self._mover, aliases=self._options.aliases))

    def _appended(self, moves: list[tuple[Append | DeadLetter, int]]) -> None:
        now = self.progress = self._clock()
        for move, offset in moves:
            self.core.appended(move, offset, now)
        self.pump()

    def _append_failed(self) -> None:
        self.rebuild("a moved record was not acknowledged")

    async def _fetch(self, command: Fetch, epoch: int) -> None:
        place, found = TopicPartition(self._family.dlt, command.partition), False
        try:
            async for records in self._reader.read({place: command.offset}, {place: command.offset + 1}):
                found = True
                if epoch == self.epoch:
                    for record in records:
                        self.core.fetched(command.partition, record, self._clock())
        except TransientError:
            self.rebuild("a held record could not be read")
        else:
            if not found and epoch == self.epoch:
                self.rebuild("the log lost a held record")
        self.pump()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self.core.next_wake()
        if wake is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake - self._clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.core.tick(self._clock())
        self.pump()
