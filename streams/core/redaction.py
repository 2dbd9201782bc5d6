"""Makes text that came from an error fit to be stored and shown: no control characters, no secrets, no excess.

Invariant: the time taken grows linearly with the room asked for, not with the text.
"""

from __future__ import annotations

import re
import unicodedata

_SENSITIVE = r"pass(?:word|wd|phrase)?|pwd|secret|token|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|credentials?"
_MASKS = (
    # name=value, "name": "value", name: 'value'; the name may be part of a longer one (db_password, x-api-key)
    (
        re.compile(
            rf"(?i)((?:{_SENSITIVE})[\w-]{{0,20}}[\"']?\s{{0,3}}[=:]\s{{0,3}})(\"[^\"]*\"?|'[^']*'?|[^\s,;&\"')\]}}]+)"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(authorization[\"']?\s{0,3}[=:]\s{0,3}[\"']?)(?:\w{1,20}\s+)?[^\s,;\"']+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)(://[^\s:/@]{0,100}:)[^\s/@]{1,200}@"), r"\1***@"),
    (re.compile(r"\b(kl_[0-9a-f]{12})_\w+|\bkls_\w+"), r"\1***"),  # an API key of ours, a signing secret
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?"), "***"),  # a JSON Web Token
    (re.compile(r"\b(?:sk|rk|pk)_(?:live|test)_\w{8,}|\bwhsec_[\w+/=]{8,}|\bAKIA[0-9A-Z]{16}\b|\bre_\w{16,}"), "***"),
    (re.compile(r"\b([\w.+-])[\w.+-]{0,63}@([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"), r"\1***@\2"),
)
_KEPT = {"\n", "\t"}
# Reading further than this many times the room cannot change what is kept by more than masking shrinks it.
_LOOK = 4


def redacted(text: str, room: int, *, from_end: bool = False) -> str:
    """The text without control and formatting characters (line breaks stay) and with secrets and addresses masked.

    Args:
        text: Any text, of any length.
        room: Only about four times so many characters are looked at, from the start or from the end.
        from_end: Which side is kept.
    """
    part = text[-room * _LOOK :] if from_end else text[: room * _LOOK]
    part = "".join(character for character in part if character in _KEPT or _is_plain(character))
    for pattern, mask in _MASKS:
        part = pattern.sub(mask, part)
    return part


def one_line(text: str) -> str:
    """The text with every run of white space as one blank."""
    return " ".join(text.split())


def head(text: str, room: int) -> str:
    """As much of the start as fits into ``room`` bytes of UTF-8."""
    return text.encode(errors="replace")[:room].decode(errors="ignore")


def tail(text: str, room: int) -> str:
    """As much of the end as fits into ``room`` bytes of UTF-8."""
    return text.encode(errors="replace")[-room:].decode(errors="ignore")


def _is_plain(character: str) -> bool:
    # Cc: control; Cf: direction overrides and zero-width marks, which hide what is shown; Cs: half a character.
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
