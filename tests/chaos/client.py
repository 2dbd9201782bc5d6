"""Asks the ledger: one connection per process, answers in the order of the questions.

Invariant: what is asked waits for its answer; a connection that breaks is an error, since the ledger never goes away.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from tests.chaos.ledger import LINE


class LedgerClient:
    """A connection that is made when first needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._connecting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, **question: Any) -> Any:
        """The ledger's answer."""
        writer = self._writer or await self._connected()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        writer.write(json.dumps(question).encode() + b"\n")
        return await answer

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=LINE)
                self._reading = asyncio.create_task(self._read(reader))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            answer = self._waiting.popleft()
            if not answer.done():  # a run that was cancelled does not wait any more
                answer.set_result(json.loads(line))
        for answer in self._waiting:
            answer.set_exception(ConnectionError("the ledger is gone"))
