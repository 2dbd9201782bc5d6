"""The bound: aiohttp and aiokafka with nothing in between; a JSON body becomes a record, with ``acks=all``."""

from __future__ import annotations

import json
import sys

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer


async def application(servers: str, topic: str) -> web.Application:
    """The handler and its producer."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()

    async def post(request: web.Request) -> web.Response:
        body = await request.read()
        key = json.loads(body)["payload"]["user_id"].encode()
        stored = await producer.send_and_wait(topic, body, key=key)
        answer = {"topic": topic, "partition": stored.partition, "offset": stored.offset}
        return web.Response(status=202, text=json.dumps(answer), content_type="application/json")

    async def stop(_app: web.Application) -> None:
        await producer.stop()

    app = web.Application()
    app.add_routes([web.post("/api/v1/jobs", post)])
    app.on_cleanup.append(stop)
    return app


def main() -> None:
    """``minimum.py SERVERS TOPIC PORT``."""
    uvloop.install()
    servers, topic, port = sys.argv[1:]
    web.run_app(application(servers, topic), host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
