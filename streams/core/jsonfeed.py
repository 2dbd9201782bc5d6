"""Takes JSON values one by one out of bytes that arrive in pieces: JSON Lines, or the elements of one JSON array.

Invariant: at most one value and one piece are in memory; every value is given with the number of the line it starts in.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK = " \t\r\n"
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # what the decoder makes of such bytes


class Value(NamedTuple):
    """A value and the line it starts in, counted from 1; ``problem`` says why there is none."""

    line: int
    value: Any = None
    problem: str | None = None


class JsonFeed:
    """Feed it pieces, take values; after the last piece call :meth:`close`.

    A bad line costs that line only; after a bad element of an array nothing more can be read.

    Args:
        largest: Characters one value may have.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder()
        self._text = ""
        self._line = 1
        self._mode: str = "unknown"  # then lines, skipping (the rest of a long line), array, after, done

    def feed(self, piece: bytes) -> Iterator[Value]:
        """The values complete with this piece."""
        yield from self._take(piece, last=False)

    def close(self) -> Iterator[Value]:
        """The values that only the end completes."""
        yield from self._take(b"", last=True)

    def _take(self, piece: bytes, *, last: bool) -> Iterator[Value]:
        self._text += self._decoder.decode(piece, last)
        if self._mode == "unknown":
            self._begin()
        if self._mode in {"lines", "skipping"}:
            yield from self._lines(last=last)
        elif self._mode in {"array", "after"}:
            yield from self._elements(last=last)

    def _begin(self) -> None:
        self._skip_blanks(_BLANK)
        if self._text.startswith("["):
            self._skip(1)
            self._mode = "array"
        elif self._text:
            self._mode = "lines"

    def _lines(self, *, last: bool) -> Iterator[Value]:
        *lines, self._text = self._text.split("\n")
        if last:
            lines.append(self._text)
        for line in lines:
            if self._mode != "skipping" and line.strip(_BLANK):
                yield self._parsed(line)
            self._line += 1
            self._mode = "lines"
        if len(self._text) > self._largest:
            if self._mode != "skipping":
                yield Value(self._line, problem=self._too_long)
            self._mode, self._text = "skipping", ""

    def _parsed(self, text: str) -> Value:
        if len(text) > self._largest:
            return Value(self._line, problem=self._too_long)
        if _NOT_UTF_8.search(text):
            return Value(self._line, problem="not UTF-8")
        try:
            return Value(self._line, json.loads(text))
        except json.JSONDecodeError as error:
            return Value(self._line, problem=f"not JSON: {error.msg} at column {error.colno}")
        except RecursionError:
            return Value(self._line, problem="nested too deeply")

    def _elements(self, *, last: bool) -> Iterator[Value]:
        while self._mode == "array":
            self._skip_blanks(_BLANK + ",")
            if self._text.startswith("]"):
                self._skip(1)
                self._mode = "after"
            elif self._text:
                found = self._element(last=last)
                if found is None:
                    return
                yield found
            elif last:
                yield from self._end("the array has no end")
            else:
                return
        self._skip_blanks(_BLANK)
        if self._mode == "after" and self._text:
            yield from self._end("more text behind the end of the array")

    def _element(self, *, last: bool) -> Value | None:
        try:
            value, length = self._json.raw_decode(self._text)
        except json.JSONDecodeError as error:
            if not last and len(self._text) <= self._largest:
                return None
            problem = self._too_long if len(self._text) > self._largest else f"not JSON: {error.msg}"
        except RecursionError:
            problem = "nested too deeply"
        else:
            foreign = _NOT_UTF_8.search(self._text, 0, length)
            found = Value(self._line, problem="not UTF-8") if foreign else Value(self._line, value)
            self._skip(length)
            return found
        return next(self._end(problem))

    def _end(self, problem: str) -> Iterator[Value]:
        line = self._line
        self._mode, self._text = "done", ""
        yield Value(line, problem=problem)

    def _skip(self, length: int) -> None:
        self._line += self._text.count("\n", 0, length)
        self._text = self._text[length:]

    def _skip_blanks(self, blanks: str) -> None:
        self._skip(len(self._text) - len(self._text.lstrip(blanks)))

    @property
    def _too_long(self) -> str:
        return f"longer than {self._largest} characters"
