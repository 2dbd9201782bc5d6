"""Ids that sort by the time they were made."""

from __future__ import annotations

import os
import time

_RANDOM = 10  # bytes


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, the rest random."""
    drawn = int.from_bytes(os.urandom(_RANDOM))
    variant = 0x8 | drawn >> 72 & 0x3  # of the first digit of the fourth group
    moment, rest = f"{time.time_ns() // 1_000_000:012x}", f"{drawn & (1 << 72) - 1:018x}"
    return f"{moment[:8]}-{moment[8:]}-7{rest[:3]}-{variant:x}{rest[3:6]}-{rest[6:]}"
