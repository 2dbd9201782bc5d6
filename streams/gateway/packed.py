"""Unpacks bodies that came compressed (``Content-Encoding``).

Invariant: whatever a body promises, no more than the cap is ever unpacked: a bomb costs what the cap costs.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import cramjam

from streams.door import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable

    Unpack = Callable[[bytes, int], bytes]

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way of asking for gzip's header
_FULL = "failed to write whole buffer"  # cramjam's words for an output that is too small


def unpacking(coding: str) -> Unpack:
    """What takes the coding off a body, and raises ProblemError: it is not coded so, or holds more than the cap.

    Raises:
        ProblemError: The coding is not known.
    """
    unpack = _CODINGS.get(coding.strip().lower())
    if unpack is None:
        raise ProblemError("unsupported-media-type", "Send the body without a Content-Encoding, or as gzip or zstd.")
    return unpack


def _gzip(data: bytes, cap: int) -> bytes:
    found = b""
    while data:  # a gzip file may have several members
        member = zlib.decompressobj(_GZIP)
        try:
            found += member.decompress(data, cap + 1 - len(found))
        except zlib.error:
            raise _broken("gzip") from None
        if len(found) > cap:
            raise _too_large(cap)
        if not member.eof:
            raise _broken("gzip")
        data = member.unused_data
    return found


def _zstd(data: bytes, cap: int) -> bytes:
    room = bytearray(cap)
    try:
        length = cramjam.zstd.decompress_into(data, room)
    except cramjam.DecompressionError as error:
        raise (_too_large(cap) if _FULL in str(error) else _broken("zstd")) from None
    return bytes(memoryview(room)[:length])


def _broken(coding: str) -> ProblemError:
    return ProblemError("malformed-body", f"The body is not whole {coding}, as its Content-Encoding says.")


def _too_large(cap: int) -> ProblemError:
    return ProblemError("too-large", f"The body has more than {cap} bytes when it is unpacked.")


_CODINGS: dict[str, Unpack] = {
    "identity": lambda data, _cap: data,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "zstd": _zstd,
}
