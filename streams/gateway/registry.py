"""The schema registry the gateway serves: Confluent's HTTP interface over a ``RegistryStore``.

``registry_app(store, admit)`` is a sub-application, served under ``/registry``. Within the process, hand the store
itself to the codec. Everybody may read; what changes the registry is done once ``admit`` has let the request pass.
Avro only: no references, no other schema types, no modes but READWRITE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from schemas.compatibility import LEVELS
from streams.gateway import registry_problems as problems
from streams.gateway.registry_http import (
    MAX_BODY_BYTES,
    admitted,
    answer,
    body,
    flag,
    page,
    refusals,
    schema_in,
    text_answer,
    version_number,
)
from streams.gateway.registry_store import DEFAULT_LEVEL

if TYPE_CHECKING:
    from streams.gateway.registry_http import Admit
    from streams.gateway.registry_state import Version
    from streams.gateway.registry_store import RegistryStore


def registry_app(store: RegistryStore, admit: Admit) -> web.Application:
    """The registry's routes, to be mounted under a prefix."""
    app = web.Application(middlewares=[refusals, admitted(admit)], client_max_size=MAX_BODY_BYTES)
    for routes in (_Subjects(store, admit).routes(), _Schemas(store).routes(), _Levels(store).routes()):
        app.add_routes(routes)
    return app


class _Subjects:
    """``/subjects``: versions of schemas under names."""

    def __init__(self, store: RegistryStore, admit: Admit) -> None:
        self._store = store
        self._admit = admit

    def routes(self) -> list[web.RouteDef]:
        one = "/subjects/{subject}/versions/{version}"
        return [
            web.get("/subjects", self.subjects),
            web.post("/subjects/{subject}", self.look_up),
            web.delete("/subjects/{subject}", self.delete_subject),
            web.get("/subjects/{subject}/versions", self.versions),
            web.post("/subjects/{subject}/versions", self.register),
            web.get(one, self.version),
            web.delete(one, self.delete_version),
            web.get(one + "/schema", self.text),
            web.get(one + "/referencedby", self.referenced_by),
        ]

    async def subjects(self, request: web.Request) -> web.Response:
        state = await self._store.read()
        only = flag(request, "deletedOnly", "deleted_only")
        prefix = request.query.get("subjectPrefix", "")
        names = [
            subject
            for subject in sorted(state.subjects)
            if subject.startswith(prefix)
            and _shown(state.versions(subject, deleted=True), flag(request, "deleted"), only)
        ]
        return answer(request, page(request, names))

    async def look_up(self, request: web.Request) -> web.Response:
        schema = await schema_in(request)
        flags = {"normalize": flag(request, "normalize"), "deleted": flag(request, "deleted")}
        return answer(request, _described(await self._store.find(_subject(request), schema, **flags)))

    async def delete_subject(self, request: web.Request) -> web.Response:
        gone = await self._store.delete_subject(_subject(request), permanent=flag(request, "permanent"))
        return answer(request, gone)

    async def versions(self, request: web.Request) -> web.Response:
        only = flag(request, "deletedOnly", "deleted_only")
        found = await self._store.versions(_subject(request), deleted=flag(request, "deleted") or only)
        return answer(request, page(request, [each.version for each in found if each.deleted or not only]))

    async def register(self, request: web.Request) -> web.Response:
        schema, normalize = await schema_in(request), flag(request, "normalize")
        try:
            # Clients ask so for the id of what they write: where it is there already, nothing is changed.
            schema_id = (await self._store.find(_subject(request), schema, normalize=normalize)).id
        except problems.NotThereError:
            await self._admit(request)
            schema_id = await self._store.register(_subject(request), schema, normalize=normalize)
        return answer(request, {"id": schema_id})

    async def version(self, request: web.Request) -> web.Response:
        return answer(request, _described(await self._asked(request)))

    async def text(self, request: web.Request) -> web.Response:
        return text_answer(request, (await self._asked(request)).text)

    async def referenced_by(self, request: web.Request) -> web.Response:
        await self._asked(request)
        return answer(request, [])

    async def delete_version(self, request: web.Request) -> web.Response:
        number, permanent = version_number(request.match_info["version"]), flag(request, "permanent")
        return answer(request, await self._store.delete_version(_subject(request), number, permanent=permanent))

    async def _asked(self, request: web.Request) -> Version:
        number = version_number(request.match_info["version"])
        return await self._store.version(_subject(request), number, deleted=flag(request, "deleted"))


class _Schemas:
    """``/schemas`` by id, and ``/compatibility``."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.root),
            web.get("/schemas/types", self.types),
            web.get("/schemas/ids/{id}", self.by_id),
            web.get("/schemas/ids/{id}/schema", self.text),
            web.get("/schemas/ids/{id}/subjects", self.subjects),
            web.get("/schemas/ids/{id}/versions", self.versions),
            web.post("/compatibility/subjects/{subject}/versions", self.compatible_with_all),
            web.post("/compatibility/subjects/{subject}/versions/{version}", self.compatible),
        ]

    async def root(self, request: web.Request) -> web.Response:
        return answer(request, {})

    async def types(self, request: web.Request) -> web.Response:
        return answer(request, ["AVRO"])

    async def by_id(self, request: web.Request) -> web.Response:
        found = {"schema": await self._store.schema(_id(request))}
        most = {"maxId": (await self._store.read()).highest_id} if flag(request, "fetchMaxId") else {}
        return answer(request, found | most)

    async def text(self, request: web.Request) -> web.Response:
        return text_answer(request, await self._store.schema(_id(request)))

    async def subjects(self, request: web.Request) -> web.Response:
        return answer(request, sorted({use.subject for use in await self._uses(request)}))

    async def versions(self, request: web.Request) -> web.Response:
        uses = [{"subject": use.subject, "version": use.version} for use in await self._uses(request)]
        return answer(request, uses)

    async def compatible(self, request: web.Request) -> web.Response:
        number = version_number(request.match_info["version"])
        return await self._verdict(request, number=number)

    async def compatible_with_all(self, request: web.Request) -> web.Response:
        return await self._verdict(request, every=True)

    async def _verdict(self, request: web.Request, *, number: int | None = None, every: bool = False) -> web.Response:
        schema = await schema_in(request)
        found = await self._store.violations(_subject(request), schema, number, every=every)
        details = {"messages": list(found)} if flag(request, "verbose") else {}
        return answer(request, {"is_compatible": not found, **details})

    async def _uses(self, request: web.Request) -> list[Version]:
        await self._store.schema(_id(request))
        state = await self._store.read()
        uses = state.uses(_id(request), deleted=flag(request, "deleted"))
        wanted = request.query.get("subject")
        return page(request, [use for use in uses if wanted in (None, use.subject)])


class _Levels:
    """``/config`` and ``/mode``: what a subject allows."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        per_subject = "/config/{subject}"
        return [
            web.get("/config", self.get_global),
            web.put("/config", self.put),
            web.delete("/config", self.delete),
            web.get(per_subject, self.get_subject),
            web.put(per_subject, self.put),
            web.delete(per_subject, self.delete),
            web.get("/mode", self.mode),
            web.get("/mode/{subject}", self.mode),
        ]

    async def get_global(self, request: web.Request) -> web.Response:
        return answer(request, {"compatibilityLevel": await self._global()})

    async def get_subject(self, request: web.Request) -> web.Response:
        level = await self._store.level(_subject(request))
        if level is None and not flag(request, "defaultToGlobal"):
            raise problems.no_subject_config(_subject(request))
        return answer(request, {"compatibilityLevel": level or await self._global()})

    async def put(self, request: web.Request) -> web.Response:
        level = (await body(request)).get("compatibility")
        if level is None:
            raise problems.invalid_level(level, LEVELS)
        await self._store.set_level(request.match_info.get("subject"), level)
        return answer(request, {"compatibility": level})

    async def delete(self, request: web.Request) -> web.Response:
        subject = request.match_info.get("subject")
        before = await self._store.level(subject)
        if before is None and subject is not None:
            raise problems.no_subject_config(subject)
        await self._store.set_level(subject, None)
        return answer(request, {"compatibilityLevel": before or DEFAULT_LEVEL})

    async def mode(self, request: web.Request) -> web.Response:
        return answer(request, {"mode": "READWRITE"})

    async def _global(self) -> str:
        return await self._store.level(None) or DEFAULT_LEVEL


def _subject(request: web.Request) -> str:
    return request.match_info["subject"]


def _id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit()) or int(text[:20]) >= 2**31:
        raise problems.schema_unknown(f"id {text[:20]}")
    return int(text)


def _shown(versions: list[Version], deleted: bool, deleted_only: bool) -> bool:
    alive = any(not version.deleted for version in versions)
    return not alive if deleted_only else alive or deleted


def _described(version: Version) -> dict[str, object]:
    return {"subject": version.subject, "id": version.id, "version": version.version, "schema": version.text}
