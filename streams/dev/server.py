"""One server of the stack as a child process behind its guard, with its log file.

Invariant: a started server is either ready, still starting or gone; ``stop`` leaves no process behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streams.dev import guard
from streams.dev.errors import CancelledError, PortTakenError, StackError

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

_GRACE = 10  # seconds a server may take to stop
_UNPRIVILEGED = 65534  # nobody
_EXCEPTION = re.compile(r"^(?:Caused by: )?[\w.$]+(?:Exception|Error): (.+)$", re.MULTILINE)
_FATAL = re.compile(r"(?:FATAL|ERROR|error): +(.+)$", re.MULTILINE)


@dataclass(slots=True)
class Server:
    """A child process that writes ``ready`` into its log when it serves.

    Attributes:
        stop_signal: What asks it to stop at once.
        drop_root: Run it as an unprivileged user when the owner is root.
    """

    name: str
    command: Sequence[str]
    log: Path
    ready: bytes
    stop_signal: int = signal.SIGTERM
    drop_root: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, *kept: int) -> None:
        """Start the process; its guard keeps the descriptors ``kept`` open for as long as the server lives."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is our own
                guarded(self.command, stop_signal=self.stop_signal, drop_root=self.drop_root),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C of the terminal reaches the owner only, which then stops in order
                pass_fds=kept,
            )

    def wait_ready(self, timeout: float, cancelled: threading.Event) -> None:
        """Wait until it serves.

        Raises:
            PortTakenError: Another process has its port.
            StackError: It ended, or was not ready after ``timeout`` seconds.
            CancelledError: ``cancelled`` was set.
        """
        deadline = time.monotonic() + timeout
        while self.ready not in self.log.read_bytes():
            if not self.alive():
                raise failure(self.name, self.log)
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {timeout:.0f} s; see {self.log}")
            if cancelled.wait(0.02):
                raise CancelledError(f"{self.name}: start given up")

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to stop, wait, and kill it if it does not; nothing happens when it is not running."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def run(name: str, command: Sequence[str], log: Path, *, drop_root: bool = False) -> None:
    """Run a preparing command of a server to its end, its output in ``log``.

    Raises:
        StackError: It failed; the message holds the reason from its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        done = subprocess.run(  # noqa: S603 - the command is our own
            guarded(command, drop_root=drop_root),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        raise failure(name, log)


def guarded(command: Sequence[str], *, stop_signal: int = signal.SIGTERM, drop_root: bool = False) -> list[str]:
    """The command line that runs ``command`` behind a guard of this process."""
    orders = guard.Orders(
        parent=os.getpid(),
        command=list(command),
        stop=stop_signal,
        grace=_GRACE,
        user=unprivileged(drop_root=drop_root),
    )
    return [sys.executable, "-I", "-S", str(Path(guard.__file__)), json.dumps(orders)]


def unprivileged(*, drop_root: bool) -> int | None:
    """The user a server runs as in place of root, or None to keep the user."""
    return _UNPRIVILEGED if drop_root and os.geteuid() == 0 else None


def failure(name: str, log: Path) -> StackError:
    """What a server's log tells about its end, as one sentence."""
    text = log.read_text(errors="replace")
    if "Address already in use" in text:
        return PortTakenError(f"{name}: its port is taken by another process; stop that one or choose another port")
    if "No space left on device" in text:
        return StackError(f"{name}: the disk is full; free some space and start again")
    return StackError(f"{name} did not start: {_reason(text)} (see {log}; 'keylane dev reset' starts with empty data)")


def _reason(text: str) -> str:
    # An exception's message says more than the line that announces it; what comes last is why the process ended.
    found = _EXCEPTION.findall(text) or _FATAL.findall(text) or text.split("\n")
    lines = [line.strip() for line in found if line.strip()]
    return lines[-1] if lines else "it wrote nothing"
