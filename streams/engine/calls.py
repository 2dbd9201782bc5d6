"""Calls a handler the way it wants to be called: on the loop, in a thread, or in a process; always with a time-out.

Invariant: when a call returns or raises, nothing of it runs any more (a thread that overruns is waited for, a
process is killed), so that a key never runs twice at once.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from pebble import ProcessExpired, ProcessPool

from streams.engine.deadlines import Deadlines, RunTimeoutError
from streams.engine.steps import Rest, begun
from streams.job import runs_on_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.job import Handler, Work

    Call = Callable[[Any, Any], Awaitable[Any]]

log = structlog.get_logger(__name__)


class ProcessDiedError(Exception):
    """The process that ran the handler ended without an answer (killed, out of memory, crashed)."""


class Calls:
    """Makes the calls of one worker process.

    Args:
        processes: How many processes ``execution="process"`` handlers share; started when first needed.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPool | None = None
        self._deadlines = Deadlines()

    def direct(self, work: Work) -> bool:
        """Whether nothing stands around the handler but its time-out, so that it may be called without :meth:`bind`."""
        return work.batch is None and work.once is None and on_loop(work)

    def bind(self, work: Work) -> Call:
        """What runs the handler once, called with a payload and a context (or lists of them, for a batch).

        It raises RunTimeoutError (it took longer than ``work.timeout`` seconds), ProcessDiedError (its process ended
        without an answer), and whatever the handler raises.
        """
        if work.once is not None:
            raise TypeError("a handler marked once is bound by OnceCalls, or its effect would not be kept")
        if work.execution == "process":
            return partial(self._in_process, work)
        if on_loop(work):
            return partial(self._on_loop, work.handler, work.timeout)
        return partial(_in_thread, work)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves this one untyped
            self._pool.join()
            self._pool = None

    async def _on_loop(self, handler: Handler, seconds: float, payload: Any, context: Any) -> Any:
        found = begun(handler(payload, context))
        # What never waited needs no time-out.
        return await self._deadlines.limit(seconds, found) if isinstance(found, Rest) else found

    async def _in_process(self, work: Work, payload: Any, context: Any) -> Any:
        if self._pool is None:
            # Forking a process that has threads and a loop is asking for trouble.
            self._pool = ProcessPool(max_workers=self._processes, context=multiprocessing.get_context("forkserver"))
        many = isinstance(context, list)
        alone = [each.without_services() for each in context] if many else context.without_services()
        future = self._pool.schedule(_run, args=(work.handler, payload, alone), timeout=work.timeout)
        try:
            return await asyncio.wrap_future(future)
        except TimeoutError:
            raise RunTimeoutError(f"took longer than {work.timeout:g} s") from None
        except ProcessExpired as error:
            raise ProcessDiedError(f"the handler's process ended with exit code {error.exitcode}") from None


def on_loop(work: Work) -> bool:
    """Whether the handler is a coroutine function that runs on the loop."""
    return work.execution != "process" and runs_on_loop(work.handler)


async def _in_thread(work: Work, payload: Any, context: Any) -> Any:
    call = asyncio.ensure_future(asyncio.to_thread(work.handler, payload, context))
    done, _ = await _shielded(call, work.timeout)
    if done:
        return _answer(call.result())
    log.warning("a run in a thread overran its time-out; its key waits until it ends", timeout=work.timeout)
    await _shielded(call, None)
    raise RunTimeoutError(f"took longer than {work.timeout:g} s")


def _answer(outcome: Any) -> Any:
    """What a plain function returned; an awaitable would never run, and its work would count as done."""
    if inspect.isawaitable(outcome):
        if inspect.iscoroutine(outcome):
            outcome.close()
        raise TypeError(
            "the handler is no 'async def' function, but returned an awaitable: declare it with 'async def'"
        )
    return outcome


def _run(handler: Callable[[Any, Any], Any], payload: Any, context: Any) -> Any:
    return handler(payload, context)


async def _shielded(call: asyncio.Future[Any], seconds: float | None) -> tuple[set[Any], set[Any]]:
    """Wait for a call that cannot be cancelled, also while we are being cancelled."""
    try:
        return await asyncio.wait({call}, timeout=seconds)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        raise
