"""The garbage collector of a process that runs many handlers at once.

Thousands of runs that wait are hundreds of thousands of young objects that all survive: with Python's thresholds the
collector walks them again and again, which takes almost half of the time of handlers that wait. Few of them are ever
part of a cycle.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (50_000, 20, 100)


def settle() -> None:
    """Leave what was loaded by now out of every collection to come, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
