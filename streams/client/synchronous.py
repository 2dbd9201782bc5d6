"""The client for programs without asyncio."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from streams.client import calls
from streams.client.credentials import Nobody
from streams.client.errors import ApiError, UnreachableError, refusal
from streams.client.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.client.calls import Call, Json, Page
    from streams.client.credentials import Credentials
    from streams.gateway.batches import BatchAnswer
    from streams.gateway.keys import KeyCreated, KeyView
    from streams.gateway.letterviews import LetterDetail, OperationView
    from streams.gateway.models import EventAccepted, JobAccepted
    from streams.gateway.views import DeadLetterView, JobDetail, JobView

T = TypeVar("T")
_SUCCESS = 300


class Client:
    """See the package; each thread that uses it has a connection of its own.

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
        self._place = urlsplit(self._url)
        self._credentials = credentials or Nobody()
        self._timeout = timeout
        self._retries = retries or Retries()
        self._mine = threading.local()
        self._all_connections: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._all_connections:
            connection.close()

    def submit(self, type_name: str, payload: Any, **options: Any) -> JobAccepted | JobView:
        """See ``AsyncClient.submit``, as for all that follows."""
        return self.send(calls.submit(type_name, payload, **options))

    def submit_many(self, jobs: Sequence[Json], *, idempotency_key: str | None = None) -> BatchAnswer:
        """Submit up to 1,000 jobs in one request; a result for each, in their order."""
        return self.send(calls.submit_many(jobs, idempotency_key=idempotency_key))

    def publish(self, type_name: str, data: Any, **options: Any) -> EventAccepted:
        """Publish an event."""
        return self.send(calls.publish(type_name, data, **options))

    def publish_many(self, events: Sequence[Json], *, idempotency_key: str | None = None) -> BatchAnswer:
        """Publish up to 1,000 CloudEvents in one request; a result for each, in their order."""
        return self.send(calls.publish_many(events, idempotency_key=idempotency_key))

    def job(self, job_id: str) -> JobDetail:
        """The job."""
        return self.send(calls.job(job_id))

    def jobs(self, **filters: Any) -> Iterator[JobView]:
        """All jobs that match, newest first."""
        return self._all(calls.jobs(**filters))

    def cancel(self, job_id: str) -> JobDetail:
        """Cancel a job that has not ended."""
        return self.send(calls.cancel(job_id))

    def retry(self, job_id: str) -> JobDetail:
        """Run a dead job again."""
        return self.send(calls.retry(job_id))

    def dead_letters(self, **filters: Any) -> Iterator[DeadLetterView]:
        """All dead letters that match, newest first."""
        return self._all(calls.dead_letters(**filters))

    def dead_letter(self, ref: str) -> LetterDetail:
        """One dead letter with its story."""
        return self.send(calls.dead_letter(ref))

    def replay(self, **asked: Any) -> OperationView:
        """Replay dead letters."""
        return self.send(calls.replay(**asked))

    def discard(self, **asked: Any) -> OperationView:
        """Discard dead letters."""
        return self.send(calls.discard(**asked))

    def operation(self, operation_id: str) -> OperationView:
        """A replay or a discard."""
        return self.send(calls.operation(operation_id))

    def keys(self, **filters: Any) -> list[KeyView]:
        """API keys."""
        return self.send(calls.keys(**filters))

    def create_key(self, name: str, scopes: Sequence[str], **options: Any) -> KeyCreated:
        """Make an API key; its secrets are in this answer only."""
        return self.send(calls.create_key(name, scopes, **options))

    def revoke_key(self, prefix: str) -> KeyView:
        """Revoke an API key."""
        return self.send(calls.revoke_key(prefix))

    def send(self, call: Call[T]) -> T:
        """Send any call, again where that may help."""
        attempt = 1
        while True:
            try:
                return self._once(call)
            except (ApiError, UnreachableError) as error:
                drawn = random.random()  # noqa: S311 - jitter
                wait = self._retries.wait(attempt, error, repeatable=call.repeatable, drawn=drawn)
                if wait is None:
                    raise
                time.sleep(wait)
                attempt += 1

    def _all(self, call: Call[Page[T]]) -> Iterator[T]:
        following: Call[Page[T]] | None = call
        while following is not None:
            page = self.send(following)
            yield from page.items
            following = page.next

    def _once(self, call: Call[T]) -> T:
        connection = self._connection()
        headers = {**call.headers, **self._credentials.headers(call.method, call.target, call.body)}
        try:
            connection.request(call.method, self._place.path + call.target, call.body or None, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(f"{self._url}: {type(error).__name__}: {error}") from error
        if response.status >= _SUCCESS:
            raise refusal(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        return call.read(response.status, json.loads(body) if body else None)

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if found is None:
            found = self._mine.connection = self._connected()
            self._all_connections.append(found)
        return found

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self._place.hostname or "", self._place.port
        if self._place.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=self._timeout)
