"""What a person would call the browser that sent a User-Agent: its name and version, and the system."""

from __future__ import annotations

import re
from typing import NamedTuple

# The first that fits wins: nearly every browser also claims to be the ones below it.
_BROWSERS = (
    ("Edge", r"\bEdg(?:e|A|iOS)?/(\d+)"),
    ("Opera", r"\b(?:OPR|Opera|OPiOS)/(\d+)"),
    ("Samsung Internet", r"\bSamsungBrowser/(\d+)"),
    ("Yandex", r"\bYaBrowser/(\d+)"),
    ("Firefox", r"\b(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"\b(?:Chrome|CriOS|Chromium)/(\d+)"),
    ("Safari", r"\bVersion/(\d+)\S* (?:Mobile/\S+ )?Safari/"),
    ("Internet Explorer", r"\b(?:MSIE |Trident/.*\brv:)(\d+)"),
)
_SYSTEMS = (
    ("iOS", r"\b(?:iPhone|iPad|iPod)\b"),
    ("Android", r"\bAndroid\b"),
    ("Windows", r"\bWindows\b"),
    ("macOS", r"\bMac ?OS ?X?\b|\bMacintosh\b"),
    ("ChromeOS", r"\bCrOS\b"),
    ("Linux", r"\bLinux\b"),
)


class Browser(NamedTuple):
    """What was recognised; None where nothing was."""

    name: str | None
    system: str | None


def browser_of(user_agent: str) -> Browser:
    """The browser behind a ``User-Agent`` header."""
    return Browser(_first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent))


def _first(patterns: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    for name, pattern in patterns:
        found = re.search(pattern, user_agent)
        if found:
            return " ".join((name, *found.groups()))
    return None
