"""Structured logs: one JSON object per line on stderr, for our own code and for libraries that use ``logging``.

Invariant: a line is one JSON object whatever was logged; control characters are escaped, secrets and addresses masked.
"""

from __future__ import annotations

import logging
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog

from streams.core.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

_LONGEST = 8_192  # characters of one value
_SHORT = 200  # characters of a value that is remembered with its masked form
_DEEPEST = 4  # levels of nested values
_SECRET = re.compile(
    r"(?i)pass(word|wd|phrase)?$|secret|token|authorization|cookie|api[-_]?key|signature|credential|private[-_]?key"
)
_QUIET = {"aiokafka": logging.WARNING, "aiohttp.access": logging.CRITICAL, "alembic": logging.WARNING}


def configure(level: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process; called once, by the command line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))


def _formatter(shared: list[Any]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            clean,
            structlog.processors.JSONRenderer(default=str),
        ],
    )


def clean(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask and escape every value of a log event."""
    return {_escaped(name): _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET.search(name):
        return "***"
    if depth < _DEEPEST and isinstance(value, dict):
        return {_escaped(str(inner)): _clean(str(inner), each, depth + 1) for inner, each in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, each, depth + 1) for each in value]
    text = str(value)[:_LONGEST]
    return _masked_before(text) if len(text) <= _SHORT else _masked(text)


def _masked(text: str) -> str:
    return redacted(_escaped(text), _LONGEST)


# Masking costs more than all the rest of a line, and most short values come again and again.
_masked_before = lru_cache(maxsize=2_048)(_masked)


def _escaped(text: str) -> str:
    # Line breaks and tabs of stack traces are escaped by JSON itself.
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
