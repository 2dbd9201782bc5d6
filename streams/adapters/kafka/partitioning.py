"""Where a key lives.

Invariant: the same as Java's producer (murmur2), which all publishers of a topic must use.
"""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of the key, in a topic of so many."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
