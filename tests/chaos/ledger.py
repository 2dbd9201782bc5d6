"""The outside process that writes down what handlers did: ``python -m tests.chaos.ledger FILE PORT``.

One JSON object per line in, one answer per line back, in the order asked. ``{"note": "effect" | "failure", "id": …}``
is answered with how many notes of that kind and id there are now, ``{"look_up": <idempotency key>}`` with the effects
of that key. It never refuses a second effect: that is for the proof to find.

Invariant: a note is answered only after it lies on the disk; many notes share one fsync.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

LINE = 65_536  # bytes


class Ledger:
    """The file and what is asked about it."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._asked: asyncio.Queue[tuple[dict[str, Any], asyncio.StreamWriter]] = asyncio.Queue()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._effects: dict[str, list[dict[str, Any]]] = defaultdict(list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the lines of one connection."""
        try:
            while line := await reader.readline():
                self._asked.put_nowait((json.loads(line), writer))
        except ConnectionError:
            return  # a worker was killed
        finally:
            writer.close()

    async def run(self) -> None:
        """Store what has gathered, then answer."""
        while True:
            batch = [await self._asked.get()]
            while not self._asked.empty():
                batch.append(self._asked.get_nowait())
            notes = [{"at": time.time(), **asked} for asked, _ in batch if "note" in asked]
            if notes:
                await asyncio.to_thread(self._store, notes)
            for asked, writer in batch:
                writer.write(json.dumps(self._answer(asked)).encode() + b"\n")

    def _store(self, notes: list[dict[str, Any]]) -> None:
        left = memoryview("".join(json.dumps(note) + "\n" for note in notes).encode())
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)

    def _answer(self, asked: dict[str, Any]) -> Any:
        if "look_up" in asked:
            return self._effects[asked["look_up"]]
        kind = asked["note"], asked["id"]
        self._counts[kind] += 1
        if asked["note"] == "effect":
            self._effects[asked["idempotency_key"]].append(asked)
        return self._counts[kind]


async def main(path: Path, port: int) -> None:
    """Serve until killed."""
    ledger = Ledger(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    async with await asyncio.start_server(ledger.serve, "127.0.0.1", port, limit=LINE):
        print("ledger ready", flush=True)
        await ledger.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
