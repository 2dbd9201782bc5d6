"""Starts a system's processes with a task each, follows their counts, and ends them when the work is done.

Invariant: when a run returns or raises, its processes have ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from tests.bench.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.task import Task

ROOT = Path(__file__).parents[2]
_BEGIN = 120.0  # seconds until the first record
_STALL = 15.0  # seconds without another record until a run is taken to be over
_END = 30.0  # seconds a process may take to drain and report
_LOOK = 0.05  # seconds between two looks at the memory


class RunError(Exception):
    """A system did not do its work; the message has the end of its log."""


class Run(NamedTuple):
    """A run that has ended: what it did, and over monotonic time the bytes of memory of its largest process."""

    result: Result
    weights: list[tuple[float, int]]

    @property
    def peak(self) -> int:
        """The most it had."""
        return max(weight for _, weight in self.weights)


class Running:
    """The processes of one run.

    Args:
        command: The interpreter and its arguments, without the task.
        task: The same for all of them; each reads until all have done ``count`` together.
    """

    def __init__(self, command: Sequence[str | Path], task: Task, processes: int, folder: Path) -> None:
        self.weights: list[tuple[float, int]] = []
        self._total = task.count
        self._folder = folder
        self._counts = dict.fromkeys(range(processes), 0)
        self._results = [folder / f"{number}.json" for number in range(processes)]
        self._children = [
            self._start(command, replace(task, result=str(result)), result.with_suffix(".log"))
            for result in self._results
        ]
        self._looks = [psutil.Process(child.pid) for child in self._children]

    def _start(self, command: Sequence[str | Path], task: Task, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as file:
            return subprocess.Popen(
                [*command, task.text()],
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )

    def follow(self, first: Callable[[], object], *, seconds: float | None = None) -> None:
        """Return when all is counted, nothing more comes, or the time is over; ``first`` is called with the first."""
        begun = last = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for number, child in enumerate(self._children):
                assert child.stdout is not None
                os.set_blocking(child.stdout.fileno(), False)
                selector.register(child.stdout, selectors.EVENT_READ, number)
            while selector.get_map() and sum(self._counts.values()) < self._total:
                before = sum(self._counts.values())
                for key, _ in selector.select(_LOOK):
                    if not self._heard(key.data, os.read(key.fd, 65_536)):
                        selector.unregister(key.fileobj)
                self._weigh()
                now = time.monotonic()
                if sum(self._counts.values()) > before:
                    last = now
                    if not before:
                        begun = now
                        first()
                if now > (last + _BEGIN if not before else last + _STALL if seconds is None else begun + seconds):
                    return

    def _heard(self, number: int, data: bytes) -> bool:
        counts = [int(word) for word in data.split(b"\n")[:-1] if word]
        if counts:
            self._counts[number] = counts[-1]
        return bool(data)

    def _weigh(self) -> None:
        try:
            self.weights.append((time.monotonic(), max(process.memory_info().rss for process in self._looks)))
        except psutil.NoSuchProcess:  # one has done its work
            return

    def end(self) -> list[dict[str, Any]]:
        """Let them end, and read their reports.

        Raises:
            RunError: One of them failed.
        """
        for child in self._children:
            assert child.stdin is not None
            child.stdin.close()
        return [self._report(*pair) for pair in zip(self._children, self._results, strict=True)]

    def _report(self, child: subprocess.Popen[bytes], result: Path) -> dict[str, Any]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_END)
        if child.returncode != 0 or not result.exists():
            tail = result.with_suffix(".log").read_text(errors="replace")[-2_000:]
            raise RunError(f"{child.args[:3]} ended with {child.returncode}:\n{tail}")  # type: ignore[index]
        found: dict[str, Any] = json.loads(result.read_text())
        return found

    def kill(self) -> None:
        """End whatever is left."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                assert stream is not None
                stream.close()


def run(
    command: Sequence[str | Path],
    task: Task,
    *,
    processes: int = 1,
    seconds: float | None = None,
    started: Callable[[], object] = lambda: None,
    first: Callable[[], object] = lambda: None,
) -> Run:
    """Run a system.

    Args:
        command: As for ``Running``.
        task: As for ``Running``.
        processes: How many of them.
        seconds: Ends the run so long after its first record, whatever was done by then.
        started: Called when the processes have started.
        first: Called when a first record was counted.

    Raises:
        RunError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = Running(command, task, processes, Path(folder))
        try:
            started()
            running.follow(first, seconds=seconds)
            return Run(Result.of(running.end()), running.weights)
        finally:
            running.kill()
