"""Children that die come back, those that cannot start are told of, and none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from streams.app.processes import Processes, StartError
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# Leaves a file <number>.<pid> while it serves; what else it does stands in the file <number>.
CHILD = """
import os, pathlib, signal, socket, sys
folder, number, link = pathlib.Path(sys.argv[1]), sys.argv[2], socket.socket(fileno=int(sys.argv[3]))
told = folder.joinpath(number)
if told.exists() and told.read_text() == "fails":
    folder.joinpath(f"{number}.failed.{os.getpid()}").touch()
    sys.exit(3)
mine = folder.joinpath(f"{number}.{os.getpid()}")
def end(*_):
    mine.unlink()
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if told.exists() and told.read_text() == "deaf" else end)
mine.touch()
link.send(b"1")
link.recv(1)
mine.unlink()
"""


class Family:
    def __init__(self, folder: Path, count: int, *, grace: float = 10.0) -> None:
        self.folder = folder
        self.stop = asyncio.Event()
        self._processes = Processes(self._command, count, grace=grace, pauses=(0.01, 0.02))

    def _command(self, number: int, link: int) -> list[str]:
        return [sys.executable, "-c", CHILD, str(self.folder), str(number), str(link)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._processes.run(self.stop))
        try:
            yield task
        finally:
            self.stop.set()
            await asyncio.gather(task, return_exceptions=True)

    def serving(self) -> dict[int, int]:
        """Process ids by number."""
        pairs = [path.name.split(".") for path in self.folder.glob("?.*") if "failed" not in path.name]
        return {int(number): int(pid) for number, pid in pairs if alive(int(pid))}

    def failures(self, number: int) -> int:
        """How often it could not start."""
        return len(list(self.folder.glob(f"{number}.failed.*")))

    async def all_serve(self, count: int) -> dict[int, int]:
        async def serve() -> bool:
            return len(self.serving()) == count

        await eventually(serve)
        return self.serving()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_that_is_killed_comes_back_and_the_others_do_not_notice(tmp_path: Path) -> None:
    family = Family(tmp_path, 3)
    async with family.running():
        before = await family.all_serve(3)
        os.kill(before[1], signal.SIGKILL)

        async def back() -> bool:
            return family.serving().get(1, before[1]) != before[1]

        await eventually(back)
        after = await family.all_serve(3)
    assert {number: pid for number, pid in after.items() if number != 1} == {0: before[0], 2: before[2]}
    assert not any(map(alive, after.values()))


async def test_all_end_when_told_and_the_deaf_are_killed(tmp_path: Path) -> None:
    tmp_path.joinpath("1").write_text("deaf")
    family = Family(tmp_path, 2, grace=0.2)
    async with family.running() as running:
        pids = await family.all_serve(2)
        family.stop.set()
        await running
    assert not any(map(alive, pids.values()))
    assert tmp_path.joinpath(f"1.{pids[1]}").exists(), "it had no time to put its things away"
    assert not tmp_path.joinpath(f"0.{pids[0]}").exists()


async def test_where_none_serves_one_that_cannot_start_ends_all_at_once(tmp_path: Path) -> None:
    tmp_path.joinpath("0").write_text("fails")
    family = Family(tmp_path, 1)
    async with family.running() as running:
        with pytest.raises(StartError, match=r"process 0 cannot start \(exit code 3\)"):
            await running
    assert family.failures(0) == 1


async def test_one_that_cannot_start_again_is_tried_some_times_while_others_serve(tmp_path: Path) -> None:
    family = Family(tmp_path, 2)
    async with family.running() as running:
        before = await family.all_serve(2)
        tmp_path.joinpath("1").write_text("fails")
        os.kill(before[1], signal.SIGKILL)
        with pytest.raises(StartError, match="process 1 cannot start"):
            await running
    assert family.failures(1) == 3
    assert not any(map(alive, before.values()))
