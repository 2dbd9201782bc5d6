"""The description of the gateway, held against what it does: requests made from it, and of what it forbids."""

from __future__ import annotations

import re

import pytest

from tests.fuzzed import schemathesis
from tests.unit.test_tenants import World


@pytest.mark.timeout(300)
async def test_schemathesis_finds_nothing(redis_url: str) -> None:
    code, said = await schemathesis(redis_url, "--max-examples", "3", "--workers", "2", "--generation-deterministic")
    assert code == 0, said
    tested = re.search(r"Tested: (\d+)", said)
    assert tested, said
    async with World().bench.client() as client:
        api = await (await client.get("/openapi.json")).json()
    endless = 2  # the stream and the WebSocket
    assert int(tested[1]) == sum(map(len, api["paths"].values())) - endless
