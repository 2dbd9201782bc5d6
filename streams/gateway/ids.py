"""Ids: new ones that sort by the time they were made, and ones that are made of what they stand for."""

from __future__ import annotations

import os
import time
from hashlib import sha256

_RANDOM = 10  # bytes
_VARIANTS = {f"{digit:x}": f"{digit & 0x3 | 0x8:x}" for digit in range(16)}


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, the rest random."""
    drawn = int.from_bytes(os.urandom(_RANDOM))
    variant = 0x8 | drawn >> 72 & 0x3  # of the first digit of the fourth group
    moment, rest = f"{time.time_ns() // 1_000_000:012x}", f"{drawn & (1 << 72) - 1:018x}"
    return f"{moment[:8]}-{moment[8:]}-7{rest[:3]}-{variant:x}{rest[3:6]}-{rest[6:]}"


def uuid8(*parts: str) -> str:
    """A UUID of version 8 (RFC 9562) made of these texts: the same for the same ones."""
    # With its length before it no part can pass for two.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    variant = _VARIANTS[digest[16]]
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
