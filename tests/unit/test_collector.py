"""The garbage collector of a worker leaves alone what was loaded, and still frees cycles."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
import streams.app.collector

class Node: pass

streams.app.collector.settle()
frozen = gc.get_freeze_count()
seen = []
for _ in range(200_000):
    node = Node()
    node.itself = node
    seen.append(weakref.ref(node))
    if seen[0]() is None:
        break
else:
    raise SystemExit("no cycle was ever freed")
print(frozen > 1_000, gc.get_freeze_count() == frozen)
"""


def test_what_was_loaded_is_left_alone_and_new_cycles_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
