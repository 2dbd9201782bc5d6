"""Batches: which records are taken, which are refused, and what is said of each.

Invariant: the answer has one entry per record, in their order. Of a key's records those before the first refused one
are taken, and none behind it: whoever sends the refused ones again keeps their order.
"""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from aiohttp import web

from streams.gateway import body
from streams.gateway.intake import behind
from streams.gateway.models import Answer
from streams.gateway.problems import understood

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streams.door import ProblemError
    from streams.gateway.problems import Problems

_BREATH = 0.01  # seconds; then others have their turn on the loop
_ERRORS = 10  # told of one record
_R = TypeVar("_R")
FINAL = web.ResponseKey("final", bool)
"""Of the answer to a batch: whether sending it again would change nothing."""


class RecordResult(Answer):
    """One record of a batch: its status as if it had come alone, and what it is by or why it was refused."""

    status: int
    id: str | None = None
    location: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    problem: dict[str, Any] | None = None


class BatchAnswer(Answer):
    """What became of each record, in their order."""

    accepted: int
    refused: int
    results: list[RecordResult]


class Asked(NamedTuple):
    """A record of a batch: what makes it ready, and its key as far as can be told without that."""

    prepare: Callable[[], Awaitable[Any]]
    key: Callable[[], object]


class Ready(NamedTuple, Generic[_R]):
    """The records of a batch that can be taken, and why the others cannot; by their number."""

    records: dict[int, _R]
    refused: dict[int, ProblemError]


async def ready(asked: Sequence[Asked]) -> Ready[Any]:
    """Make records ready in their order; behind a refused one of its key none is."""
    found: Ready[Any] = Ready({}, {})
    stopped: set[object] = set()
    since = time.perf_counter()
    for number, each in enumerate(asked):
        if stopped and each.key() in stopped - {None}:
            found.refused[number] = behind()
            continue
        try:
            found.records[number] = await each.prepare()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one record is said of it alone
            found.refused[number] = told(error)
            stopped.add(each.key())
        if time.perf_counter() - since > _BREATH:
            await asyncio.sleep(0)
            since = time.perf_counter()
    return found


def told(error: BaseException) -> ProblemError:
    """The problem an error is, without the way it came: a thousand tracebacks would keep all they passed alive."""
    problem = understood(error)
    problem.__traceback__ = problem.__context__ = problem.__cause__ = None
    return problem


def answer(
    problems: Problems, count: int, accepted: dict[int, dict[str, Any]], refused: dict[int, ProblemError]
) -> web.Response:
    """The answer to a batch of so many records.

    Raises:
        ProblemError, TransientError: Nothing was taken, for reasons that lie with us.
    """
    results = [
        {"status": HTTPStatus.ACCEPTED, **accepted[number]}
        if number in accepted
        else _refused(problems, refused[number])
        for number in range(count)
    ]
    ours = [result for result in results if result["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR]
    if len(ours) == count > 0:
        raise refused[0]
    text = json.dumps({"accepted": len(accepted), "refused": len(refused), "results": results})
    status = HTTPStatus.MULTI_STATUS if refused else HTTPStatus.ACCEPTED
    response = web.Response(text=text, status=status, content_type=body.JSON)
    response[FINAL] = not ours
    return response


def _refused(problems: Problems, problem: ProblemError) -> dict[str, Any]:
    members = problems.members(problem, most=_ERRORS)
    return {"status": members["status"], "problem": members}
