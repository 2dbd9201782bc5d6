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
from tests.integration import own_queue

if TYPE_CHECKING:
    import pytest

    from streams.settings import Settings


async def test_a_queue_is_behind_until_a_worker_has_done_its_jobs(
    settings: Settings, unique: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.gateway.queues.FRESH", 0.0)
    queue = unique("emails")
    own = own_queue.of(settings, queue).model_copy(update={"gateway_port": ports.any_free()})
    admin = TopicAdmin(client_options(own))
    await admin.apply(await admin.plan(wanted(load_catalogue(own), contracts(), 1)))

    async with gateway(own) as url, ClientSession(url) as client:

        async def figures() -> dict[str, Any]:
            async with client.get("/metrics/queue-stats") as response:
                assert response.status == 200, await response.text()
                (found,) = (await response.json())["queues"]
            assert found["queue"] == queue
            return found

        assert (await figures())["accepted"] == 0  # and all partitions are served
        for _ in range(5):
            body = JOB | {"payload": PAYLOAD | {"user_id": unique("user")}}
            async with client.post("/api/v1/jobs", json=body) as response:
                assert response.status == 202
        waiting = await figures()
        assert (waiting["accepted"], waiting["lag"], waiting["processed"]) == (5, 5, 0)

        async with worker(own, [queue, "history"]):

            async def done() -> bool:
                found = await figures()
                return (found["lag"], found["in_flight"]) == (0, 0)

            await eventually(done, within=60)
        after = await figures()
        assert after["processed"] == after["accepted"] == 5
