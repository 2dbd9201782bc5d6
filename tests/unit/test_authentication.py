from __future__ import annotations

import asyncio
import hmac
import json
import logging
import random
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from streams import signing
from streams.credentials import RefusedError
from streams.gateway import keycache
from streams.gateway.keycache import VALID
from streams.gateway.modes import Modes, parsed
from streams.gateway.proofs import SignatureProof
from streams.job import TransientError
from tests.access_doubles import Acts, Gate, bearer
from tests.gateway_doubles import JOB

if TYPE_CHECKING:
    from aiohttp import ClientResponse

BODY = json.dumps(JOB).encode()
POST = ("POST", "/api/v1/jobs")
JSON = {"Content-Type": "application/json"}


async def posted(gate: Gate, headers: dict[str, str], data: bytes = BODY) -> tuple[int, dict[str, Any], ClientResponse]:
    async with gate.bench().client() as client:
        response = await client.post("/api/v1/jobs", data=data, headers=JSON | headers)
        return response.status, await response.json(), response


async def status(gate: Gate, headers: dict[str, str]) -> int:
    return (await posted(gate, headers))[0]


async def refusal(gate: Gate, headers: dict[str, str]) -> str:
    """What a client is told."""
    found, problem, response = await posted(gate, headers)
    assert found == 401
    assert response.headers["WWW-Authenticate"]
    return str(problem["detail"])


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_a_key_is_taken_from_either_header(header: str) -> None:
    gate = Gate()
    text = gate.key("jobs:write").text
    assert await status(gate, {header: f"Bearer {text}" if header == "Authorization" else text}) == 202


async def test_a_key_without_the_scope_is_a_403_that_names_it() -> None:
    gate = Gate()
    found, problem, _ = await posted(gate, bearer(gate.key("jobs:read", "events:write")))
    assert (found, problem["scope"]) == (403, "jobs:write")


async def test_no_credentials_are_a_401_that_names_what_would_do() -> None:
    for modes, schemes in (
        ("key", 'Bearer realm="keylane"'),
        ("hmac", 'Keylane-HMAC-SHA256 realm="keylane"'),
        ("key,hmac", 'Keylane-HMAC-SHA256 realm="keylane", Bearer realm="keylane"'),
    ):
        found, problem, response = await posted(Gate(modes), {})
        assert (found, problem["detail"]) == (401, "Send credentials.")
        assert response.headers["WWW-Authenticate"] == schemes


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same() -> None:
    gate = Gate()
    of_another_master_key = Gate(store=gate.store).key("jobs:write")
    good, revoked = gate.key("jobs:write"), gate.key("jobs:write")
    gate.store.keys[revoked.key.prefix] = revoked.key.revoked(1)
    for text in (
        "kl_short",
        f"kl_{'0' * 12}_{good.text.rpartition('_')[2]}",
        good.text[:-1] + ("0" if good.text[-1] != "0" else "1"),
        good.text.upper(),
        revoked.text,
        of_another_master_key.text,
    ):
        assert await refusal(gate, {"X-API-Key": text}) == "The credentials are not valid."


async def test_a_key_is_valid_until_it_expires_or_is_revoked() -> None:
    gate = Gate()
    issued = gate.key("jobs:write", expires_at=int(gate.now * 1000) + 1_000)
    assert await status(gate, bearer(issued)) == 202
    gate.now += 1
    assert await status(gate, bearer(issued)) == 401

    lasting = gate.key("jobs:write")
    assert await status(gate, bearer(lasting)) == 202
    gate.store.keys[lasting.key.prefix] = lasting.key.revoked(1)
    gate.monotonic += VALID
    assert await status(gate, bearer(lasting)) == 401


async def test_a_hot_key_costs_no_statement_and_is_read_again_beside_the_requests() -> None:
    gate = Gate()
    issued = gate.key("jobs:write")
    for _ in range(3):
        assert await status(gate, bearer(issued)) == 202
    assert len(gate.store.asked) == 1
    gate.monotonic += keycache.FRESH
    assert await status(gate, bearer(issued)) == 202
    await gate.cache.find(issued.key.prefix)
    assert len(gate.store.asked) == 2


async def test_while_the_database_is_away_known_keys_count_for_a_while_and_then_nobody_comes_in() -> None:
    gate = Gate()
    issued = gate.key("jobs:write")
    assert await status(gate, bearer(issued)) == 202
    gate.store.away = TransientError("away")
    gate.monotonic += VALID - 0.1
    assert await status(gate, bearer(issued)) == 202
    gate.monotonic += 0.1
    assert await status(gate, bearer(issued)) == 503
    assert await status(gate, bearer(gate.key("jobs:write"))) == 503
    gate.store.away = None
    assert await status(gate, bearer(issued)) == 202


async def test_prefixes_that_are_nobodys_cost_one_statement_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(keycache, "_MOST", 10)
    for number in range(25):
        assert await gate.cache.find(f"{number:012x}") is None
        assert await gate.cache.find(f"{number:012x}") is None
    assert len(gate.store.asked) == 25
    assert len(gate.cache._unknown) == 10


async def test_a_signed_request_is_taken_once() -> None:
    gate = Gate("hmac")
    key = gate.key("jobs:write")
    headers = gate.signed(key, *POST, BODY)
    assert await status(gate, headers) == 202
    assert await refusal(gate, headers) == "The nonce was used before; sign the request anew."
    assert set(gate.nonces.taken.values()) == {600}, "for as long as the timestamp may be accepted"


async def test_whoever_has_no_signature_uses_up_no_nonce() -> None:
    gate = Gate("hmac")
    key = gate.key("jobs:write")
    headers = gate.signed(key, *POST, BODY)
    assert await refusal(gate, headers | {signing.SIGNATURE: "v1=" + "0" * 64}) == "The credentials are not valid."
    assert await refusal(gate, headers | {signing.SIGNATURE: "v1=\u00e9"}) == "The credentials are not valid."
    assert gate.nonces.taken == {}
    assert await status(gate, headers) == 202


@pytest.mark.parametrize(("off", "accepted"), [(-301, False), (-299, True), (299, True), (301, False)])
async def test_clocks_may_be_five_minutes_apart(off: int, accepted: bool) -> None:
    gate = Gate("hmac")
    headers = gate.signed(gate.key("jobs:write"), *POST, BODY, timestamp=int(gate.now) + off)
    if accepted:
        assert await status(gate, headers) == 202
    else:
        assert "check the clock" in await refusal(gate, headers)


async def test_without_redis_no_signature_is_accepted() -> None:
    gate = Gate("hmac")
    gate.nonces.away = TransientError("away")
    assert await status(gate, gate.signed(gate.key("jobs:write"), *POST, BODY)) == 503


async def test_the_order_of_the_query_is_the_senders_own_but_its_parts_are_signed() -> None:
    gate = Gate("hmac")
    key = gate.key("admin", tenant=None)
    async with gate.bench().client() as client:

        async def got(signed: str, sent: str) -> int:
            headers = gate.signed(key, "GET", f"/api/v1/keys?{signed}")
            return (await client.get(f"/api/v1/keys?{sent}", headers=headers)).status

        assert await got("tenant=a", "tenant=a") == 200
        assert await got("a=1&tenant=a", "tenant=a&a=1") == 400, "signed rightly, but no such parameter"
        assert await got("tenant=a", "tenant=b") == 401
        assert await got("", "tenant=a") == 401


async def test_the_key_itself_does_not_sign_and_a_signing_secret_is_no_key() -> None:
    gate = Gate("hmac,key")
    key = gate.key("jobs:write")
    swapped = key._replace(text=key.signing_secret, signing_secret=key.text)
    assert await status(gate, gate.signed(swapped, *POST, BODY)) == 401
    assert await status(gate, bearer(swapped)) == 401


async def test_credentials_of_a_kind_the_route_does_not_take_are_not_taken_for_none() -> None:
    gate = Gate("none,hmac")
    assert await status(gate, {}) == 202
    assert await status(gate, bearer(gate.key("jobs:write"))) == 401


async def test_where_credentials_are_optional_anybody_may_do_what_the_route_is_for_but_nobody_is_admin() -> None:
    gate = Gate("none,key")
    async with gate.bench().client() as client:
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202
        assert (await client.get("/api/admin/dlq")).status == 200
        assert (await client.get("/api/v1/keys")).status == 401
        wrong = {"X-API-Key": "kl_wrong"}
        assert (await client.post("/api/v1/jobs", json=JOB, headers=wrong)).status == 401


async def test_a_route_has_the_modes_of_the_longest_pattern_that_covers_it() -> None:
    gate = Gate("key", {"/api": "hmac", "/api/v1/jobs": "none", "/api/v1/jobs/{id}": "key"})
    async with gate.bench().client() as client:
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202
        for path, scheme in (("/api/v1/jobs/1", "Bearer"), ("/api/admin/dlq", "Keylane-HMAC-SHA256")):
            response = await client.get(path)
            assert (response.status, response.headers["WWW-Authenticate"].split()[0]) == (401, scheme)


def test_a_pattern_ends_at_a_slash_and_one_that_covers_nothing_is_told() -> None:
    modes = Modes(parsed("key"), {"/api/v1/job": parsed("none"), "/api/v1/jobs/": parsed("hmac")})
    assert modes.of("/api/v1/jobs") == parsed("key")
    assert modes.of("/api/v1/jobs/{id}") == parsed("hmac")
    assert modes.strays(["/api/v1/jobs", "/api/v1/jobs/{id}"]) == ["/api/v1/job"]
    with pytest.raises(ValueError, match="'keys' is no mode; there are none, key, hmac, jwt"):
        parsed("key,keys")


class Sent:
    """A request as far as its signature is concerned; its body is there."""

    content = SimpleNamespace(is_eof=lambda: True)

    def __init__(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> None:
        self.method, self.raw_path, self.headers, self._body = method, target, headers, body

    async def read(self) -> bytes:
        return self._body


async def test_ten_thousand_mutated_signatures_and_none_is_accepted() -> None:
    """Every part of the request and of its signature: each place in many ways, and then many places at once."""
    gate = Gate("hmac")
    key, chance = gate.key("jobs:write"), random.Random(17)
    proof = SignatureProof(gate.cache, gate.vault, gate.nonces, clock=lambda: gate.now)
    target = "/api/v1/jobs?a=1&b=2"
    names = (signing.KEY, signing.TIMESTAMP, signing.NONCE, signing.SIGNATURE)
    headers = gate.signed(key, "POST", target, BODY)
    parts = ["POST", target, BODY.decode(), *(headers[name] for name in names)]

    async def accepted(parts: list[str]) -> bool:
        method, target, body, *values = parts
        sent = Sent(method, target, body.encode(), dict(zip(names, values, strict=True)))
        try:
            await proof.caller(cast("Any", sent), parts[-1])
        except RefusedError:
            return False
        return True

    changed = [sorted(mutations(part)) for part in parts]
    singly = [[*parts[:at], one, *parts[at + 1 :]] for at, many in enumerate(changed) for one in many]
    together = [list(map(chance.choice, changed)) for _ in range(10_000 - len(singly))]
    for mutated in (*singly, *together):
        assert not await accepted(mutated), mutated
    assert gate.nonces.taken == {}
    assert await accepted(parts)


def mutations(text: str) -> set[str]:
    """The text with a character changed, left out, doubled, or swapped with the next one, or more at its end."""
    found = {text + extra for extra in ("\n", " ", "&", "\x00", "0")}
    for at, character in enumerate(text):
        others = {chr((ord(character) ^ 1 << bit) or 1) for bit in range(6)} | set("\n&=?/0aA")
        found |= {text[:at] + other + text[at + 1 :] for other in others}
        found |= {text[:at] + text[at + 1 :], text[:at] + character + text[at:]}
        found.add(text[:at] + text[at + 1 : at + 2] + character + text[at + 2 :])
    return found - {text}


async def test_mutated_requests_are_refused_by_the_gateway_too() -> None:
    gate = Gate("hmac")
    key = gate.key("jobs:write")
    headers = gate.signed(key, *POST, BODY)
    async with gate.bench().client() as client:
        for name in headers:
            sendable = [each for each in sorted(mutations(headers[name])) if each.isprintable() and " " not in each]
            for mutated in random.Random(17).sample(sendable, 40):
                changed = JSON | headers | {name: mutated}
                assert (await client.post("/api/v1/jobs", data=BODY, headers=changed)).status == 401, changed
        for body in (BODY + b" ", BODY[:-1], b"", BODY.replace(b"steppe", b"forest")):
            assert (await client.post("/api/v1/jobs", data=body, headers=JSON | headers)).status == 401
        assert (await client.put("/api/v1/jobs", data=BODY, headers=JSON | headers)).status == 405
        assert (await client.post("/api/v1/jobs?a", data=BODY, headers=JSON | headers)).status == 401
        assert gate.nonces.taken == {}
        assert (await client.post("/api/v1/jobs", data=BODY, headers=JSON | headers)).status == 202


@pytest.mark.parametrize("kind", ["no credentials", "an unknown key", "a key revoked", "an unknown signer", "stale"])
async def test_who_proves_nothing_is_refused_before_a_body_is_read(kind: str) -> None:
    gate = Gate("hmac,key")
    key, gone = gate.key("jobs:write"), gate.key("jobs:write")
    signed = gate.signed(key, *POST, BODY)
    gate.store.keys[gone.key.prefix] = gone.key.revoked(1)
    headers = {
        "no credentials": {},
        "an unknown key": {"X-API-Key": key.text.replace(key.key.prefix, "0" * 12)},
        "a key revoked": {"X-API-Key": gone.text},
        "an unknown signer": signed | {signing.KEY: "0" * 12},
        "stale": signed | {signing.TIMESTAMP: "1"},
    }[kind]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (JSON | headers).items())
    async with gate.bench().client() as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n{lines}\r\n".encode())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("streams.keys.compare_digest", compare)
    monkeypatch.setattr("streams.gateway.proofs.compare_digest", compare)
    gate = Gate("hmac,key")
    key = gate.key("jobs:write")
    assert await status(gate, bearer(key)) == 202
    signed = gate.signed(key, *POST, BODY)
    assert await status(gate, signed) == 202
    assert [other for _, other in compared] == [key.key.digest, signed[signing.SIGNATURE].encode()]


async def test_no_secret_stands_in_the_log_or_in_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streams.gateway.access")
    gate = Gate("hmac,key")
    key = gate.key("jobs:write")
    signed = gate.signed(key, *POST, BODY)
    told = []
    with capture_logs() as logs:
        for headers in (bearer(key), signed, signed, {"X-API-Key": key.text + "x"}, {"X-API-Key": key.text[:-1] + "_"}):
            found = await posted(gate, headers)
            told.append(f"{found[1]} {found[2].headers}")
    said = json.dumps(logs, default=str) + "".join(told)
    assert {"credentials refused", "request"} <= {entry["event"] for entry in logs}
    for secret in (key.text.rpartition("_")[2], key.signing_secret, signed[signing.SIGNATURE]):
        assert secret not in said


async def test_authentications_are_counted_by_mode_and_outcome() -> None:
    gate = Gate("none,key,hmac")
    bench = gate.bench()
    key = gate.key("jobs:write")
    async with bench.client() as client:
        for headers in ({}, bearer(key), {"X-API-Key": "kl_x"}, gate.signed(key, *POST, b"other")):
            await client.post("/api/v1/jobs", data=BODY, headers=JSON | headers)
        gate.nonces.away = TransientError("away")
        await client.post("/api/v1/jobs", data=BODY, headers=JSON | gate.signed(key, *POST, BODY))
    counted = re.findall(
        r'keylane_authentications_total{mode="(\w+)",outcome="(\w+)"} 1', bench.metrics.text().decode()
    )
    assert set(counted) == {
        ("none", "ok"),
        ("key", "ok"),
        ("key", "malformed"),
        ("hmac", "wrong"),
        ("hmac", "unavailable"),
    }


async def test_whoever_acts_for_a_tenant_without_having_one_is_written_down_first() -> None:
    acts = Acts()
    gate = Gate("key", changes={"audit": acts})
    admin, own = gate.key("admin", tenant=None), gate.key("jobs:write")
    bench = gate.bench()
    async with bench.client() as client:
        for key in (own, admin):
            assert (await client.post("/api/v1/jobs", json=JOB, headers=bearer(key))).status == 202
        assert (await client.get("/api/v1/jobs/nobody", headers=bearer(admin))).status == 404
        (act,) = acts.told
        assert (act.who, act.what, act.target) == (f"key:{admin.key.prefix}", "tenants.act", "POST /api/v1/jobs")

        acts.away, stored = TransientError("away"), len(bench.log.messages)
        assert (await client.post("/api/v1/jobs", json=JOB, headers=bearer(admin))).status == 503
        assert len(bench.log.messages) == stored
        assert (await client.post("/api/v1/jobs", json=JOB, headers=bearer(own))).status == 202
