"""E-mail bodies from the templates of a folder: per language ``<language>.subject.txt``, ``.txt`` and ``.html``.

Invariant: values are escaped in HTML, and a template that names an unknown value is an error, not a gap.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

if TYPE_CHECKING:
    from datetime import datetime

FALLBACK_LANGUAGE = "mn"
_ULAANBAATAR = ZoneInfo("Asia/Ulaanbaatar")


class Letter(NamedTuple):
    """A rendered e-mail."""

    subject: str
    text: str
    html: str


class Letters:
    """The templates in the folder ``templates`` beside a module.

    Args:
        module: The module's ``__file__``.
    """

    def __init__(self, module: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(Path(module).parent / "templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            auto_reload=False,  # templates change with a deployment; looking each time would block the loop
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["moment"] = moment

    def render(self, name: str = "", *, locale: str = FALLBACK_LANGUAGE, **values: Any) -> Letter:
        """The letter ``name`` in the language of ``locale``, or in Mongolian where that is not written.

        Raises:
            jinja2.TemplateError: A template is missing or names an unknown value.
        """
        subject, text, html = (self._part(name, suffix, locale, values) for suffix in ("subject.txt", "txt", "html"))
        return Letter(subject.strip(), text, html)

    def _part(self, name: str, suffix: str, locale: str, values: dict[str, Any]) -> str:
        languages = (locale.partition("-")[0], FALLBACK_LANGUAGE)
        files = [".".join(filter(None, (language, name, suffix))) for language in languages]
        return self._environment.select_template(files).render(values)


def moment(when: datetime, language: str = FALLBACK_LANGUAGE) -> str:
    """A moment as read in Ulaanbaatar: ``2026 оны 11-р сарын 24, 10:05`` or ``24 November 2026, 10:05 (UTC+8)``."""
    local = when.astimezone(_ULAANBAATAR)
    if language == FALLBACK_LANGUAGE:
        return f"{local.year} оны {local.month}-р сарын {local.day}, {local:%H:%M}"
    return f"{local.day} {local:%B %Y, %H:%M} (UTC+8)"
