"""TCP ports on the loopback: the customary one, the one asked for, or any free one.

Invariant: a port that was asked for is never silently replaced.
"""

from __future__ import annotations

import random
import socket

from streams.dev.errors import PortTakenError

HOST = "127.0.0.1"
_LASTING = range(20_000, 32_000)  # below those that outgoing connections get, 32,768 and up on Linux
_TRIES = 200


def choose(customary: int, asked: int | None, name: str) -> int:
    """The port to use: ``asked`` if given, else ``customary`` if it is free, else any free one.

    Raises:
        PortTakenError: ``asked`` is taken.
    """
    if asked is None:
        return customary if free(customary) else any_free()
    if not free(asked):
        raise PortTakenError(f"{name}: port {asked} is taken by another process; stop that one or choose another port")
    return asked


def free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: lingering connections don't count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """A port nobody listens on right now, and that the system gives to no connection before somebody does."""
    found = next((port for port in random.sample(_LASTING, _TRIES) if free(port)), None)
    if found is None:
        raise PortTakenError(f"of {_TRIES} ports between {_LASTING.start} and {_LASTING.stop} none is free")
    return found


def answers(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
