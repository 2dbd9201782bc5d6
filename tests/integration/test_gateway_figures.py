"""Figures of queues as a real broker and database tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession

from schemas.catalogue import contracts
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin
from streams.app.gateway import gateway
from streams.app.worker import worker
from streams.catalogue import load_catalogue
from streams.dev import ports
from streams.topics import wanted
from tests.eventually import eventually
from tests.gateway_doubles import JOB, PAYLOAD

if TYPE_CHECKING:
    import pytest

    from streams.settings import Settings


async def test_a_queue_is_behind_until_a_worker_has_done_its_jobs(
    settings: Settings, unique: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.gateway.queues.FRESH", 0.0)
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan(wanted(load_catalogue(settings), contracts(), 1)))
    own = settings.model_copy(update={"gateway_port": ports.any_free()})

    async with gateway(own) as url, ClientSession(url) as client:

        async def emails() -> dict[str, Any]:
            async with client.get("/metrics/queue-stats") as response:
                assert response.status == 200, await response.text()
                queues = (await response.json())["queues"]
            return next(queue for queue in queues if queue["queue"] == "emails")

        before = await emails()
        for _ in range(5):
            body = JOB | {"payload": PAYLOAD | {"user_id": unique("user")}}
            async with client.post("/api/v1/jobs", json=body) as response:
                assert response.status == 202
        waiting = await emails()
        assert waiting["accepted"] == before["accepted"] + 5
        assert waiting["lag"] == before["lag"] + 5
        assert waiting["processed"] == before["processed"]

        async with worker(own, ["emails", "history"]):

            async def done() -> bool:
                found = await emails()
                return (found["lag"], found["in_flight"]) == (0, 0)

            await eventually(done, within=30)
        after = await emails()
        assert after["processed"] == after["accepted"] == waiting["accepted"]
