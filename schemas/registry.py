"""What the codec asks of a schema registry, and the client of one that speaks Confluent's HTTP interface.

Invariant: an answer that is about the schema is final; whatever else goes wrong is RegistryUnavailableError.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth
from yarl import URL

from schemas.errors import RegistryUnavailableError, SchemaRefusedError, UnknownSchemaError

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_UNKNOWN = {40401, 40402, 40403}
_REFUSED = {409, 42201, 422}
_T = TypeVar("_T")


class Registry(Protocol):
    """A Confluent-compatible registry; schemas are Avro schemas as JSON text."""

    async def register(self, subject: str, schema: str) -> int:
        """The id of the schema under the subject, registered now if it was not.

        Raises:
            SchemaRefusedError: The schema is invalid or incompatible with the subject's earlier ones.
            RegistryUnavailableError: The registry cannot be reached.
        """

    async def schema(self, schema_id: int) -> str:
        """The schema of the id.

        Raises:
            UnknownSchemaError: The registry knows no such id.
            RegistryUnavailableError: The registry cannot be reached.
        """

    async def lookup(self, subject: str, schema: str) -> int:
        """The id of a schema that is registered under the subject.

        Raises:
            UnknownSchemaError: It is not registered there.
            SchemaRefusedError: The schema is invalid.
            RegistryUnavailableError: The registry cannot be reached.
        """

    async def close(self) -> None:
        """Give up connections."""


class RegistryClient:
    """A registry over HTTP; ids and schemas never change, so every answer is kept.

    Args:
        url: Where the registry is; a user and password in it are sent as basic authentication.
        timeout: Seconds one request may take.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        given = URL(url)
        self._base = str(given.with_user(None)).rstrip("/")
        self._headers = {"Accept": _MEDIA_TYPE}
        if given.user:
            self._headers["Authorization"] = encode_basic_auth(given.user, given.password or "")
        self._timeout = ClientTimeout(total=timeout)
        self._session: ClientSession | None = None
        self._schemas: dict[int, str] = {}
        self._ids: dict[tuple[str, str], int] = {}

    async def register(self, subject: str, schema: str) -> int:
        """See ``Registry.register``."""
        return await self._id_by_text(f"/subjects/{quote(subject, safe='')}/versions", schema)

    async def lookup(self, subject: str, schema: str) -> int:
        """See ``Registry.lookup``."""
        return await self._id_by_text(f"/subjects/{quote(subject, safe='')}", schema)

    async def compatible(self, subject: str, schema: str) -> bool:
        """Whether the registry would take the schema; it takes any under a subject it does not know yet.

        Raises:
            SchemaRefusedError: The schema is invalid.
            RegistryUnavailableError: The registry cannot be reached.
        """
        try:
            answer = await self._ask(
                "POST", f"/compatibility/subjects/{quote(subject, safe='')}/versions", {"schema": schema}
            )
        except UnknownSchemaError:
            return True
        return self._field(answer, "is_compatible", bool)

    async def schema(self, schema_id: int) -> str:
        """See ``Registry.schema``; what is not Avro in one piece counts as unknown."""
        if schema_id not in self._schemas:
            answer = await self._ask("GET", f"/schemas/ids/{schema_id}")
            if answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
                raise UnknownSchemaError(f"schema {schema_id} is not an Avro schema in one piece, without references")
            self._schemas[schema_id] = self._field(answer, "schema", str)
        return self._schemas[schema_id]

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _id_by_text(self, path: str, schema: str) -> int:
        key = (path, schema)
        if key not in self._ids:
            answer = await self._ask("POST", path, {"schema": schema})
            self._ids[key] = self._field(answer, "id", int)
        return self._ids[key]

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        if self._session is None:
            self._session = ClientSession(timeout=self._timeout, headers=self._headers)
        headers = {"Content-Type": _MEDIA_TYPE} if body else {}
        url = URL(self._base + path, encoded=True)
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, allow_redirects=False
            ) as response:
                return self._judge(response.status, await response.json(content_type=None))
        except (ClientError, TimeoutError, ValueError) as error:
            raise RegistryUnavailableError(f"{self._base} does not answer: {error or type(error).__name__}") from error

    def _judge(self, status: int, answer: Any) -> dict[str, Any]:
        found: dict[str, Any] = answer if isinstance(answer, dict) else {}
        if status == HTTPStatus.OK:
            return found
        code, message = found.get("error_code"), f"{self._base}: {found.get('message', f'status {status}')}"
        if code in _UNKNOWN:
            raise UnknownSchemaError(message)
        if code in _REFUSED:
            raise SchemaRefusedError(message)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise RegistryUnavailableError(f"{message}: check user and password in KEYLANE_SCHEMA_REGISTRY_URL")
        raise RegistryUnavailableError(message)

    def _field(self, answer: dict[str, Any], name: str, kind: type[_T]) -> _T:
        value = answer.get(name)
        if not isinstance(value, kind):
            raise RegistryUnavailableError(f"{self._base} is not a schema registry: its answer has no {name!r}")
        return value
