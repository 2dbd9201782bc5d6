"""What a dead letter holds and what became of it, as text: for people and programs alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streams.core import headers as h

if TYPE_CHECKING:
    from streams.deadletters.entry import Entry
    from streams.deadletters.ledger import Standing

_HEX = 512  # bytes shown of a payload that cannot be decoded
_ASIDE = {h.STACK, "kafka_exception-stacktrace", "__streams.errors.stacktrace"}


class Chapter(NamedTuple):
    """Something that happened to it; ``at`` in milliseconds since the epoch, empty text where nobody said."""

    at: int
    state: str
    by: str = ""
    reason: str = ""


def story(entry: Entry, standing: Standing) -> list[Chapter]:
    """From its death on."""
    chapters = [Chapter(entry.failed_at, "died", reason=entry.classification)]
    operation, note = standing.operation, standing.note
    if operation is not None:
        state = f"{operation.name}, {operation.status}"
        chapters.append(Chapter(operation.at, state, operation.by, operation.reason))
    if note is not None:
        chapters.append(Chapter(note.at, note.state, note.by, note.reason))
    return chapters


def headers_shown(entry: Entry) -> list[tuple[str, str]]:
    """All headers but the stack, as text."""
    return [(name, bytes_shown(value)) for name, value in entry.record.headers if name not in _ASIDE]


def bytes_shown(value: bytes | None) -> str:
    """Text where it is text, else hexadecimal; long values are cut."""
    if value is None:
        return "null"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and (text or not value):
        return text
    more = f" … {len(value)} bytes" if len(value) > _HEX else ""
    return f"0x{value[:_HEX].hex()}{more}"
