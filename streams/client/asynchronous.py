"""The client for asyncio."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
from yarl import URL

from streams.client import calls
from streams.client.credentials import Nobody
from streams.client.errors import ApiError, UnreachableError, refusal
from streams.client.retries import Retries
from streams.client.sse import Event, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.client.calls import Call, Json, Page
    from streams.client.credentials import Credentials
    from streams.gateway.batches import BatchAnswer
    from streams.gateway.keys import KeyCreated, KeyView
    from streams.gateway.letterviews import LetterDetail, OperationView
    from streams.gateway.models import EventAccepted, JobAccepted
    from streams.gateway.views import DeadLetterView, JobDetail, JobView

T = TypeVar("T")
_SUCCESS = 300


class AsyncClient:
    """See the package; use it with ``async with``.

    Args:
        url: Of the gateway.
        credentials: ``ApiKey``, ``Signed`` or ``Token``.
        timeout: Seconds for one attempt.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials | None = None,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._credentials = credentials or Nobody()
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._retries = retries or Retries()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def submit(self, type_name: str, payload: Any, **options: Any) -> JobAccepted | JobView:
        """Submit a job: the answer of ``POST /api/v1/jobs``.

        Args:
            type_name: Of the job.
            payload: That fits the type's model.
            options: ``tenant``, ``key``, ``id`` and the other members of the request; ``wait`` seconds for the job to
                end; ``idempotency_key`` to go on with what an earlier process began.

        Raises:
            ApiError: It is refused.
            UnreachableError: No answer; send it again with the same ``idempotency_key`` or ``id``.
        """
        return await self.send(calls.submit(type_name, payload, **options))

    async def submit_many(self, jobs: Sequence[Json], *, idempotency_key: str | None = None) -> BatchAnswer:
        """Submit up to 1,000 jobs in one request; a result for each, in their order. Errors as ``submit``."""
        return await self.send(calls.submit_many(jobs, idempotency_key=idempotency_key))

    async def publish(self, type_name: str, data: Any, **options: Any) -> EventAccepted:
        """Publish an event: the answer of ``POST /api/v1/events``; ``options`` and errors as ``submit``."""
        return await self.send(calls.publish(type_name, data, **options))

    async def publish_many(self, events: Sequence[Json], *, idempotency_key: str | None = None) -> BatchAnswer:
        """Publish up to 1,000 CloudEvents in one request; a result for each, in their order. Errors as ``submit``."""
        return await self.send(calls.publish_many(events, idempotency_key=idempotency_key))

    async def job(self, job_id: str) -> JobDetail:
        """The job. Raises ApiError (404 where there is none) and UnreachableError, as all of the following do."""
        return await self.send(calls.job(job_id))

    async def jobs(self, **filters: Any) -> AsyncIterator[JobView]:
        """All jobs that match, newest first; ``filters`` are the query parameters of ``GET /api/v1/jobs``."""
        async for item in self._all(calls.jobs(**filters)):
            yield item

    async def cancel(self, job_id: str) -> JobDetail:
        """Cancel a job that has not ended."""
        return await self.send(calls.cancel(job_id))

    async def retry(self, job_id: str) -> JobDetail:
        """Run a dead job again."""
        return await self.send(calls.retry(job_id))

    async def dead_letters(self, **filters: Any) -> AsyncIterator[DeadLetterView]:
        """All dead letters that match, newest first."""
        async for item in self._all(calls.dead_letters(**filters)):
            yield item

    async def dead_letter(self, ref: str) -> LetterDetail:
        """One dead letter with its story."""
        return await self.send(calls.dead_letter(ref))

    async def replay(self, **asked: Any) -> OperationView:
        """Replay dead letters; ``asked`` are the members of ``POST /api/v1/dlt:replay``."""
        return await self.send(calls.replay(**asked))

    async def discard(self, **asked: Any) -> OperationView:
        """Discard dead letters."""
        return await self.send(calls.discard(**asked))

    async def operation(self, operation_id: str) -> OperationView:
        """A replay or a discard."""
        return await self.send(calls.operation(operation_id))

    async def keys(self, **filters: Any) -> list[KeyView]:
        """API keys."""
        return await self.send(calls.keys(**filters))

    async def create_key(self, name: str, scopes: Sequence[str], **options: Any) -> KeyCreated:
        """Make an API key; its secrets are in this answer only."""
        return await self.send(calls.create_key(name, scopes, **options))

    async def revoke_key(self, prefix: str) -> KeyView:
        """Revoke an API key."""
        return await self.send(calls.revoke_key(prefix))

    async def stream(self, last_id: str = "", **filters: Any) -> AsyncIterator[Event]:
        """Events as they happen; goes on where it stood when the connection breaks.

        Raises:
            ApiError: The gateway refuses.
        """
        reader, attempt = Reader(last_id), 0
        while True:
            try:
                async for event in self._streamed(reader, filters):
                    attempt = 0
                    yield event
            except (ApiError, UnreachableError) as error:
                attempt += 1
                await self._wait(attempt, error, repeatable=True)

    async def send(self, call: Call[T]) -> T:
        """Send any call, again where that may help."""
        attempt = 1
        while True:
            try:
                return await self._once(call)
            except (ApiError, UnreachableError) as error:
                await self._wait(attempt, error, repeatable=call.repeatable)
                attempt += 1

    async def _wait(self, attempt: int, error: ApiError | UnreachableError, *, repeatable: bool) -> None:
        wait = self._retries.wait(attempt, error, repeatable=repeatable, drawn=random.random())  # noqa: S311 - jitter
        if wait is None:
            raise error
        await asyncio.sleep(wait)

    async def _all(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        following: Call[Page[T]] | None = call
        while following is not None:
            page = await self.send(following)
            for item in page.items:
                yield item
            following = page.next

    async def _once(self, call: Call[T]) -> T:
        try:
            async with self._request(call, self._timeout) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{self._url}: {type(error).__name__}: {error}") from error
        if response.status >= _SUCCESS:
            raise refusal(response.status, _lower(response), body)
        return call.read(response.status, json.loads(body) if body else None)

    async def _streamed(self, reader: Reader, filters: Json) -> AsyncIterator[Event]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": reader.last_id} if reader.last_id else {})}
        call = calls.stream(filters, headers)
        try:
            async with self._request(call, aiohttp.ClientTimeout(sock_read=60.0)) as response:
                if response.status >= _SUCCESS:
                    raise refusal(response.status, _lower(response), await response.read())
                async for line in response.content:
                    for event in reader.read(line.decode().rstrip("\r\n")):
                        yield event
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{self._url}: {type(error).__name__}: {error}") from error

    def _request(self, call: Call[Any], timeout: aiohttp.ClientTimeout) -> Any:
        if self._http is None:
            raise RuntimeError("use the client with 'async with'")
        headers = {**call.headers, **self._credentials.headers(call.method, call.target, call.body)}
        url = URL(self._url + call.target, encoded=True)  # what was signed is what is sent
        return self._http.request(call.method, url, data=call.body or None, headers=headers, timeout=timeout)


def _lower(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
