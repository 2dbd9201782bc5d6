"""Stands between the stack and one server: ends the server when its owner is gone, also after ``kill -9``.

Run as a script with one JSON argument (see ``Orders``), standard library only, so that it starts in milliseconds.

Invariant: no server outlives its owner. The guard sees the owner's death as a change of its parent process; should the
guard itself be killed, the kernel signals the server (``PR_SET_PDEATHSIG``: it watches the guard's only thread, which
lives as long as the guard, where a thread of the owner might end early).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import TypedDict

_LOOK = 0.25  # seconds between two looks at the parent
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

_PR_SET_PDEATHSIG, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2  # a change of user keeps the capabilities, and access(2) heeds them
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION = 0x20080522


class Orders(TypedDict):
    """What a guard is told: its owner's pid, the server's command, how to stop it and as whom to run it.

    ``user`` None keeps the user; a number is taken where a server refuses to run as root.
    """

    parent: int
    command: list[str]
    stop: int
    grace: int
    user: int | None


def main(orders: Orders) -> int:
    """Run the server until it ends, a signal comes or the parent is gone; returns the server's exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = _spawn(orders)
    while child.poll() is None:
        got = signal.sigtimedwait(_SIGNALS, _LOOK)
        asked = got is not None and got.si_signo != signal.SIGCHLD
        if asked or os.getppid() != orders["parent"]:
            return _end(child, orders)
    return child.returncode


def _end(child: subprocess.Popen[bytes], orders: Orders) -> int:
    child.send_signal(orders["stop"])
    try:
        return child.wait(orders["grace"])
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _spawn(orders: Orders) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None, use_errno=True)
    user = orders["user"]

    def before_exec() -> None:
        if user is not None:
            _become(libc, user)
        libc.prctl(_PR_SET_PDEATHSIG, orders["stop"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    return subprocess.Popen(orders["command"], preexec_fn=before_exec)  # noqa: PLW1509, S603 - one thread; own command


def _become(libc: ctypes.CDLL, user: int) -> None:
    # The server may have to read programs below a home that only root may enter: it keeps the right to pass through.
    libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    mask = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    libc.capset(header, data)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])) & 0xFF)
