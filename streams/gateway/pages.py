"""The pages for people: ``/docs``, made from the OpenAPI document, and ``/problems/…``.

Invariant: they load nothing from elsewhere and no script runs on them; the content security policy says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from streams.door import ProblemError
from streams.gateway.problems import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Pages:
    """Renders once what never changes."""

    def __init__(self, api: Mapping[str, Any]) -> None:
        templates = Environment(loader=PackageLoader("streams.gateway"), autoescape=True, trim_blocks=True)
        templates.filters["pretty"] = _pretty
        style = templates.loader.get_source(templates, "style.css")[0] if templates.loader else ""
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._policy = f"{POLICY}; style-src 'sha256-{digest}'"
        self._api = json.dumps(api)
        self._docs = templates.get_template("docs.html").render(api=api, shown=_shown, style=style)
        self._problems = templates.get_template("problem.html").render(kinds=KINDS, style=style)

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/openapi.json", self.openapi),
            web.get("/docs", self.docs),
            web.get("/problems/", self.problems),
            web.get("/problems/{kind}", self.problems),
        ]

    async def openapi(self, _request: web.Request) -> web.StreamResponse:
        """The document."""
        return web.Response(text=self._api, content_type="application/json")

    async def docs(self, _request: web.Request) -> web.StreamResponse:
        """The document for people."""
        return self._page(self._docs)

    async def problems(self, request: web.Request) -> web.StreamResponse:
        """What the types of problems mean."""
        if request.match_info.get("kind", "internal") not in KINDS:
            raise ProblemError("not-found", "There is no such type of problem.")
        return self._page(self._problems)

    def _page(self, text: str) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(text=text, content_type="text/html", headers=headers)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _shown(schema: Mapping[str, Any]) -> Markup:
    """A reference as a link; anything else as it is."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}"><code>{0}</code></a>').format(name)
    return Markup("<pre>{0}</pre>").format(_pretty(schema))
