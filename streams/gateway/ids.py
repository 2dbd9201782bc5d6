"""Ids that sort by the time they were made."""

from __future__ import annotations

import secrets
import time
import uuid

_RANDOM = 74  # bits


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, the rest random."""
    drawn = secrets.randbits(_RANDOM)
    high, low = drawn >> 62, drawn & (1 << 62) - 1
    return str(uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low))
