"""The options that choose dead letters, the same for every command, and the filters they make."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from streams.core.replay import STATES, State
from streams.deadletters.entry import Filters, parse_ref
from streams.deadletters.reading import DeadLetterError

if TYPE_CHECKING:
    from collections.abc import Callable

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OFFSETS = re.compile(r"(\d{1,18})(-(\d{1,18})?)?")
_WHEN = "RFC 3339, or so long ago: 90s, 15m, 2h, 7d."


def _options(
    ref: Annotated[str | None, typer.Argument(help="One dead letter: <topic>/<partition>/<offset>.")] = None,
    group: Annotated[str | None, typer.Option(help="Of this consumer group.")] = None,
    topic: Annotated[str | None, typer.Option(help="Of this source or dead-letter topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0)] = None,
    offsets: Annotated[str | None, typer.Option(help="In the dead-letter topic: 17, 17-29 or 17-.")] = None,
    tenant: Annotated[str | None, typer.Option()] = None,
    key: Annotated[str | None, typer.Option(help="The whole record key, or its entity part.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="The type of the event or job.")] = None,
    exception: Annotated[str | None, typer.Option(help="Class name, with or without its module.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Failed then or later. {_WHEN}")] = None,
    until: Annotated[str | None, typer.Option(help=f"Failed before. {_WHEN}")] = None,
    state: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(STATES)}; may be repeated.")] = None,
) -> Filters:
    first, last = _offsets(offsets)
    chosen = Filters(
        group=group,
        topic=topic,
        partition=partition,
        first=first,
        last=last,
        tenant=tenant,
        key=key,
        type=type_,
        exception=exception,
        since=moment("--since", since),
        until=moment("--until", until),
        states=frozenset(_state(one) for one in state or ()),
    )
    return chosen if ref is None else _one(ref, chosen)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above; it takes what they make as ``filters`` (a function, which may raise)."""
    options, own = _parameters(_options), _parameters(command)

    @wraps(command)
    def run(**given: Any) -> None:
        choosing = {one.name: given.pop(one.name) for one in options}
        command(filters=lambda: _options(**choosing), **given)

    parameters = [*options, *own]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters but ``filters``, with what their annotations stand for."""
    found = [one for one in inspect.signature(function).parameters.values() if one.name != "filters"]
    texts = SimpleNamespace(__annotations__={one.name: one.annotation for one in found})
    hints = get_type_hints(texts, globalns=function.__globals__, include_extras=True)
    return [one.replace(annotation=hints[one.name]) for one in found]


def moment(option: str, text: str | None) -> int | None:
    """A time in ms since the epoch.

    Raises:
        DeadLetterError: It is neither a date-time with an offset nor a span.
    """
    if text is None:
        return None
    if found := _SPAN.fullmatch(text):
        then = datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        return int(then.timestamp() * 1000)
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        raise DeadLetterError(f"{option} {text}: must be {_WHEN}") from None
    if then.tzinfo is None:
        raise DeadLetterError(f"{option} {text}: name the offset from UTC, for example {text}+08:00")
    return int(then.timestamp() * 1000)


def _offsets(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    found = _OFFSETS.fullmatch(text)
    if found is None:
        raise DeadLetterError(f"--offsets {text}: must be like 17, 17-29 or 17-")
    first = int(found[1])
    if found[2] is None:
        return first, first
    return first, None if found[3] is None else int(found[3])


def _state(text: str) -> State:
    for state in STATES:
        if state == text:
            return state
    raise DeadLetterError(f"--state {text}: must be one of {', '.join(STATES)}")


def _one(ref: str, others: Filters) -> Filters:
    if others != Filters():
        raise DeadLetterError(f"{ref} names one dead letter: leave out the other options")
    place = parse_ref(ref)
    if place is None:
        raise DeadLetterError(f"{ref}: must be <topic>/<partition>/<offset>")
    where, offset = place
    return Filters(topic=where.topic, partition=where.partition, first=offset, last=offset)
