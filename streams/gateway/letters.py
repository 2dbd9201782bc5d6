"""``/api/v1/dlt``: dead letters, page by page and one by one, for the caller's tenant.

Invariant: looking changes nothing; another tenant's dead letter answers as if it were not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.errors import RegistryUnavailableError, UndecodableError
from streams.core import headers as h
from streams.core.replay import STATES
from streams.deadletters.entry import Filters, parse_ref
from streams.deadletters.reading import DeadLetterError
from streams.deadletters.story import bytes_shown, headers_shown, story
from streams.door import ProblemError, RouteSpec
from streams.gateway import body, cursors
from streams.gateway.access import CALLER, Scope
from streams.gateway.deadletters import shown
from streams.gateway.intake import rfc3339
from streams.gateway.jobs import json_answer
from streams.gateway.letterviews import ChapterView, LetterDetail, LetterList
from streams.gateway.models import Key, Moment, Name, Tenant
from streams.job import TransientError
from streams.live import positions
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from schemas.codec import Codec
    from streams.core.replay import State
    from streams.deadletters.entry import Entry
    from streams.deadletters.ledger import Standing
    from streams.deadletters.reading import DeadLetters
    from streams.gateway.access import Caller

LOCATION = "/api/v1/dlt/"
_STATES = "|".join(STATES)
_STATUSES = {
    401: "The credentials are missing or not valid.",
    403: "The scope is missing, or the tenant is another one's.",
    503: "The broker is away.",
}


class Chosen(BaseModel):
    """Which dead letters are meant; what is left out does not restrict.

    ``topic`` is the source topic or the dead-letter topic, ``first`` and ``last`` are offsets in the latter, ``key`` is
    the whole record key or its entity part, ``exception`` a class name with or without its module.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    group: Name | None = None
    topic: Name | None = None
    partition: Annotated[int, Field(ge=0)] | None = None
    first: Annotated[int, Field(ge=0)] | None = None
    last: Annotated[int, Field(ge=0)] | None = None
    tenant: Tenant | None = None
    key: Key | None = None
    type: Name | None = None
    exception: Name | None = None
    since: Moment | None = None
    until: Moment | None = None


class LetterQuery(Chosen):
    """Which dead letters are meant, in one of the states (separated by commas), and which page of them."""

    state: Annotated[str, StringConstraints(pattern=f"^({_STATES})(,({_STATES}))*$")] | None = None
    cursor: Annotated[str, Field(max_length=cursors.LONGEST)] | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class LetterRoutes:
    """The routes.

    Args:
        codec: Decodes payloads to show them.
    """

    def __init__(self, letters: DeadLetters, codec: Codec) -> None:
        self._letters = letters
        self._codec = codec

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        return (
            RouteSpec(
                method="GET",
                path=LOCATION.rstrip("/"),
                summary="List dead letters, newest first",
                scope=Scope.DLT_READ,
                build=lambda _: self.list,
                query=LetterQuery,
                answer=LetterList,
                statuses={
                    200: "A page of the dead letters that match.",
                    400: "A query parameter is unknown or does not fit.",
                }
                | _STATUSES,
            ),
            RouteSpec(
                method="GET",
                path=LOCATION + r"{topic}/{partition:\d+}/{offset:\d+}",
                summary="Look at a dead letter",
                scope=Scope.DLT_READ,
                build=lambda _: self.get,
                answer=LetterDetail,
                statuses={200: "All there is to know.", 404: "There is none, or it is another tenant's."} | _STATUSES,
            ),
        )

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page."""
        query = body.fitted(LetterQuery, dict(request.query))
        states = frozenset(each for each in STATES if query.state and each in query.state.split(","))
        filters = filters_of(query, request[CALLER], states=states)
        meant = query.model_dump(exclude={"cursor", "limit"})
        below = await self._letters.ends(filters) if query.cursor is None else _below(query.cursor, meant)
        found: list[Entry] = []
        async for entry in self._letters.entries(filters, await self._letters.ledger(), below):
            if len(found) == query.limit:
                cursor = cursors.encode(positions.encode(_behind(below, found)), meant)
                return json_answer(LetterList(entries=[shown(each) for each in found], cursor=cursor))
            found.append(entry)
        return json_answer(LetterList(entries=[shown(each) for each in found], cursor=None))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        place = parse_ref("/".join(request.match_info[part] for part in ("topic", "partition", "offset")))
        if place is None:
            raise _none()
        where, offset = place
        ledger = await self._letters.ledger()
        try:
            entry = await self._letters.entry(where, offset, ledger)
        except DeadLetterError:
            raise _none() from None
        if not request[CALLER].sees(entry.tenant):
            raise _none()
        return json_answer(await self._detail(entry, ledger.standing(where, offset)))

    async def _detail(self, entry: Entry, standing: Standing) -> LetterDetail:
        try:
            return detail(entry, standing, *await payload_shown(entry.record.value, self._codec))
        except RegistryUnavailableError as error:
            raise TransientError(f"the schema registry does not answer: {error}") from error


def detail(entry: Entry, standing: Standing, payload: Any, raw: str | None) -> LetterDetail:
    """All there is to know of a dead letter, with its value as ``payload_shown`` gives it."""
    return LetterDetail(
        **shown(entry).model_dump(),
        payload=payload,
        raw=raw,
        headers=dict(headers_shown(entry)),
        stack=h.text(entry.record.headers, h.STACK) or None,
        story=[ChapterView(**{**chapter._asdict(), "at": rfc3339(chapter.at)}) for chapter in story(entry, standing)],
    )


async def payload_shown(value: bytes | None, codec: Codec) -> tuple[Any, str | None]:
    """The value decoded, else as text with the reason why not.

    Raises:
        RegistryUnavailableError: What it means cannot be told now.
    """
    if value is None:
        return None, None
    try:
        await codec.load(value)
        found = codec.decode_now(value)
    except UndecodableError as error:
        return None, f"{bytes_shown(value)} ({error})"
    return (None, bytes_shown(value)) if found is None else (found.model.model_dump(mode="json"), None)


def filters_of(
    chosen: Chosen, caller: Caller, *, states: frozenset[State] = frozenset(), refs: frozenset[str] = frozenset()
) -> Filters:
    """The filters, for what the caller sees.

    Raises:
        ProblemError: The tenant is another one's.
    """
    return Filters(
        group=chosen.group,
        topic=chosen.topic,
        partition=chosen.partition,
        first=chosen.first,
        last=chosen.last,
        tenant=chosen.tenant if caller.tenant is None else caller.acting_for(chosen.tenant),
        key=chosen.key,
        type=chosen.type,
        exception=chosen.exception,
        since=_milliseconds(chosen.since),
        until=_milliseconds(chosen.until),
        states=states,
        refs=refs,
    )


def _behind(below: dict[TopicPartition, int], found: list[Entry]) -> dict[TopicPartition, int]:
    """Where the list goes on: in each partition below the last entry that was shown."""
    return below | {TopicPartition(*entry.where): entry.offset for entry in found}


def _below(cursor: str, meant: dict[str, Any]) -> dict[TopicPartition, int]:
    place = cursors.decode(cursor, meant)
    found = positions.decode(place) if isinstance(place, str) else None
    if found is None:
        raise cursors.misfit()
    return found


def _none() -> ProblemError:
    return ProblemError("not-found", "There is no such dead letter (any more).")


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
