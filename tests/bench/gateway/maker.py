"""Makes requests over keep-alive connections and measures how long the answers take.

Invariant: a connection has one request under way; with a rate, a request counts from the moment it was due, so that a
server that stands still does not hide behind requests that were never made.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import uvloop

from tests.bench.arithmetic import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = "%NUMBER%"
_WARM = 0.2  # of the time: not measured
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send; ``NUMBER`` in headers and body is another one in each request.

    Attributes:
        rate: Requests per second; 0: each connection sends its next one when it has an answer.
        seconds: How long, a fifth of it to warm up.
        keep: Note when each request was answered.
    """

    port: int
    path: str
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    connections: int = 1
    rate: float = 0.0
    seconds: float = 3.0
    first: int = 0
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back.

    Attributes:
        rate: Answers per second.
        p50: Seconds until an answer, as are ``p95`` and ``p99``.
        statuses: How many of each.
        body: Of the last one.
        times: By the number of a request, when it was answered (seconds since the epoch), if that was to be kept.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    statuses: dict[str, int]
    body: str
    times: dict[str, float] = field(default_factory=dict)


class Maker:
    """The state all connections share."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.body = b""
        self.times: dict[str, float] = {}
        self.end = asyncio.get_running_loop().create_future()
        now = time.perf_counter()
        self.begin, self.until = now + load.seconds * _WARM, now + load.seconds
        self.free: deque[Connection] = deque()
        self.due: deque[float] = deque()
        self._head, self._tail = self._template()
        self._numbers: Iterator[int] = iter(range(load.first, sys.maxsize))

    def _template(self) -> tuple[str, str]:
        load = self.load
        headers = {"Host": f"127.0.0.1:{load.port}", "Content-Type": "application/json", **load.headers}
        lines = [f"POST {load.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines), load.body

    def request(self) -> tuple[str, bytes]:
        """The next one, and its number."""
        number = f"{next(self._numbers):09d}"
        body = self._tail.replace(NUMBER, number).encode()
        head = f"{self._head.replace(NUMBER, number)}\r\nContent-Length: {len(body)}\r\n\r\n"
        return number, head.encode() + body

    def answered(self, number: str, since: float, status: str, body: bytes) -> bool:
        """Count an answer; whether to go on."""
        now = time.perf_counter()
        if self.load.keep:
            self.times[number] = time.time()
        if now >= self.until:
            if not self.end.done():
                self.end.set_result(None)
            return False
        if now >= self.begin:
            self.latencies.append(now - since)
            self.statuses[status] += 1
        self.body = body
        return True

    def answers(self) -> Answers:
        """What it came to."""
        found = self.latencies or [0.0]
        return Answers(
            rate=len(self.latencies) / (self.until - self.begin),
            p50=quantile(found, 0.5),
            p95=quantile(found, 0.95),
            p99=quantile(found, 0.99),
            statuses=dict(self.statuses),
            body=self.body.decode(),
            times=self.times,
        )


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._transport: Any = None
        self._since = 0.0
        self._number = ""
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        """Begin, unless requests come by the clock."""
        self._transport = transport
        if self._maker.load.rate:
            self._maker.free.append(self)
        else:
            self.send(time.perf_counter())

    def send(self, since: float) -> None:
        """Send one, which counts from ``since``."""
        self._since = since
        self._number, request = self._maker.request()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Go on when the answer is whole."""
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found or len(rest) < _length(head):
            return
        self._data = b""
        if self._maker.answered(self._number, self._since, head[9:12].decode(), rest):
            self._next()

    def _next(self) -> None:
        if not self._maker.load.rate:
            self.send(time.perf_counter())
        elif self._maker.due:
            self.send(self._maker.due.popleft())
        else:
            self._maker.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up before the end has failed."""
        if not self._maker.end.done():
            self._maker.end.set_exception(exc or ConnectionResetError("the server hung up"))


def _length(head: bytes) -> int:
    lower = head.lower()
    begin = lower.index(_LENGTH) + len(_LENGTH)
    return int(lower[begin:].split(b"\r\n", 1)[0])


async def make(load: Load) -> Answers:
    """Make the load."""
    maker, loop = Maker(load), asyncio.get_running_loop()
    for _ in range(load.connections):
        await loop.create_connection(lambda: Connection(maker), "127.0.0.1", load.port)
    paced = asyncio.create_task(_pace(maker)) if load.rate else None
    await asyncio.wait_for(maker.end, load.seconds + 30)
    if paced is not None:
        paced.cancel()
    return maker.answers()


async def _pace(maker: Maker) -> None:
    due = time.perf_counter()
    while True:
        due += 1 / maker.load.rate
        await asyncio.sleep(due - time.perf_counter())
        if maker.free:
            maker.free.popleft().send(due)
        else:
            maker.due.append(due)


def main() -> None:
    """``maker.py LOAD``, as JSON; prints the answers as JSON."""
    print(json.dumps(asdict(uvloop.run(make(Load(**json.loads(sys.argv[1])))))))


if __name__ == "__main__":
    main()
