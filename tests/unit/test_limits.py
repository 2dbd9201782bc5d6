"""Limits on requests, addresses behind proxies, and pages of other origins, at the gateway itself."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import ValidationError

from streams import signing
from streams.door import ProblemError
from streams.gateway.access import Caller, Scope
from streams.gateway.limits import Limit, Limits
from streams.gateway.peers import Origins, Peers
from streams.job import TransientError
from streams.rates import LocalRates
from tests.gateway_doubles import JOB, Bench

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from streams.rates import Bucket, Taken


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Away:
    """Redis is away."""

    asked = 0

    async def take(self, buckets: tuple[Bucket, ...]) -> Taken:
        self.asked += 1
        raise TransientError("redis is away")


class Known:
    """Tells callers apart by a header."""

    def at(self, path: str, scope: str) -> Any:
        return self._caller

    async def _caller(self, request: Any) -> Caller:
        name = request.headers.get("X-Who")
        if name is None:
            raise ProblemError("unauthenticated", "Say who you are.")
        return Caller(name, name.split("@")[1], frozenset(Scope))


def bench(*limits: dict[str, Any], shared: Any = None, clock: Clock | None = None) -> Bench:
    clock = clock or Clock()
    peers = Peers([ip_network("127.0.0.0/8")])
    found = Limits(
        [Limit(**each) for each in limits],
        shared or LocalRates(clock),
        LocalRates(clock),
        address=peers.address,
        clock=clock,
    )
    return Bench(changes={"limits": found, "peers": peers, "access": Known()})


async def asked(client: Any, who: str | None = "a@steppe", **headers: str) -> Any:
    return await client.post("/api/v1/jobs", json=JOB, headers=headers | ({"X-Who": who} if who else {}))


async def test_who_is_over_the_limit_is_told_when_to_come_again() -> None:
    clock = Clock()
    async with bench({"name": "tenant", "per": "tenant", "rate": "2/m"}, clock=clock).client() as client:
        answers = [await asked(client) for _ in range(3)]
        assert [answer.status for answer in answers] == [202, 202, 429]
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
        assert answers[0].headers["RateLimit-Policy"] == "2;w=60;burst=2"
        assert answers[2].headers["Retry-After"] == "30"
        assert (await answers[2].json())["limit"] == "tenant"
        clock.now += 30
        assert (await asked(client)).status == 202


@pytest.mark.parametrize(
    ("per", "other", "status"),
    [("user", "b@steppe", 202), ("tenant", "b@steppe", 429), ("route", "b@steppe", 429), ("ip", "b@steppe", 429)],
)
async def test_what_is_counted_together(per: str, other: str, status: int) -> None:
    async with bench({"name": "one", "per": per, "rate": "1/m"}).client() as client:
        assert (await asked(client)).status == 202
        assert (await asked(client)).status == 429
        assert (await asked(client, other)).status == status


async def test_addresses_behind_a_trusted_proxy_are_told_apart_and_those_of_one_network_are_not() -> None:
    async with bench({"name": "one", "per": "ip", "rate": "1/m"}).client() as client:
        seen = [
            (await asked(client, **{"X-Forwarded-For": address})).status
            for address in ("198.51.100.7", "198.51.100.8", "2001:db8::1", "2001:db8::2", "8.8.8.8, 198.51.100.7")
        ]
    assert seen == [202, 202, 202, 429, 429]


async def test_who_cannot_prove_who_asks_is_limited_by_address() -> None:
    async with bench({"name": "one", "per": "ip", "rate": "2/m"}).client() as client:
        assert [(await asked(client, None)).status for _ in range(3)] == [401, 401, 429]


async def test_a_limit_applies_to_the_routes_it_names() -> None:
    limit = {"name": "events", "per": "user", "rate": "1/m", "routes": ["POST /api/v1/events"]}
    async with bench(limit).client() as client:
        assert [(await asked(client)).status for _ in range(3)] == [202, 202, 202]


@pytest.mark.parametrize(("away", "statuses"), [("open", [202] * 3), ("closed", [503] * 3), ("local", [202, 202, 429])])
async def test_what_happens_without_redis_is_for_the_limit_to_say(away: str, statuses: list[int]) -> None:
    redis = Away()
    async with bench({"name": "one", "per": "user", "rate": "2/m", "away": away}, shared=redis).client() as client:
        assert [(await asked(client)).status for _ in range(3)] == statuses
    assert redis.asked == 1, "what is away is not asked by every request"


@pytest.mark.parametrize(
    "changes", [{"rate": "0/m"}, {"rate": "5"}, {"per": "moon"}, {"routes": ["jobs"]}, {"burst": 0}, {"more": 1}]
)
def test_a_limit_that_cannot_be_meant_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limit(**{"name": "one", "per": "ip", "rate": "1/m"} | changes)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        ([], "203.0.113.9", "10.0.0.1"),
        (["10.0.0.0/8"], "203.0.113.9", "203.0.113.9"),
        (["10.0.0.0/8"], "1.1.1.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"),
        (["10.0.0.0/8"], "203.0.113.9, not an address", "10.0.0.1"),
        (["10.0.0.0/8"], "", "10.0.0.1"),
        (["192.168.0.0/16"], "203.0.113.9", "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_are_believed(proxies: list[str], forwarded: str, address: str) -> None:
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": forwarded} if forwarded else {})
    request = request.clone(remote="10.0.0.1")
    assert Peers([ip_network(proxy) for proxy in proxies]).address(request) == address


async def test_pages_of_origins_that_are_named_may_call_and_others_may_not() -> None:
    made = Bench(changes={"origins": Origins(["https://console.example"])})
    async with made.client() as client:
        asking = {"Origin": "https://console.example", "Access-Control-Request-Method": "POST"}
        preflight = await client.options("/api/v1/jobs", headers=asking)
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://console.example"
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
        answer = await client.get("/api/v1/jobs/none", headers={"Origin": "https://console.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://console.example"
        other = await client.options("/api/v1/jobs", headers=asking | {"Origin": "https://evil.example"})
        assert other.status == 405
        assert "Access-Control-Allow-Origin" not in other.headers
        assert other.headers["Vary"] == "Origin"


def listed(answer: ClientResponse, name: str) -> set[str]:
    return {each.strip().lower() for each in answer.headers[name].split(",")}


async def test_pages_of_other_origins_may_send_and_read_every_header_the_gateway_knows() -> None:
    made = bench({"name": "all", "per": "ip", "rate": "9/s"})
    made.changes["origins"] = Origins(["https://console.example"])
    origin = {"Origin": "https://console.example"}
    async with made.client() as client:
        document = await (await client.get("/openapi.json")).json()
        asking = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "ce-id"}
        preflight = await client.options("/api/v1/events", headers=asking)
        answer = await client.post("/api/v1/jobs", json=JOB, headers=origin | {"X-Who": "page@steppe"})

    assert answer.status == 202
    limits = {name for name in answer.headers if name.startswith("RateLimit-")}
    assert limits
    operations = [(method, each) for path in document["paths"].values() for method, each in path.items()]
    described = {each["name"] for _, one in operations for each in one["parameters"] if each["in"] == "header"}
    proofs = {"Authorization", "X-API-Key", signing.KEY, signing.TIMESTAMP, signing.NONCE, signing.SIGNATURE}
    traced = {"traceparent", "tracestate", "X-Request-Id", "Last-Event-ID"}
    sent = {name.lower() for name in described | proofs | traced | {"Content-Type", "Content-Encoding"}}
    assert {"idempotency-key", "prefer"} <= sent
    assert sent - listed(preflight, "Access-Control-Allow-Headers") == set()
    assert "*" in listed(preflight, "Access-Control-Allow-Headers"), "the extensions of a CloudEvent have any names"
    assert {method for method, _ in operations} - listed(preflight, "Access-Control-Allow-Methods") == set()

    shown = {"Location", "Retry-After", "WWW-Authenticate", "Idempotency-Replayed", "Preference-Applied", "Allow"}
    told = {name.lower() for name in shown | {"X-Request-Id"} | limits}
    assert told - listed(answer, "Access-Control-Expose-Headers") == set()


async def test_without_origins_nothing_is_said_of_them() -> None:
    async with Bench().client() as client:
        answer = await client.get("/health/live", headers={"Origin": "https://console.example"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert "Vary" not in answer.headers
