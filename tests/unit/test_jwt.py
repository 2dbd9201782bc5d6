from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from streams.adapters.jwks import KeySet, OneKey
from streams.adapters.tokens import Issuer, JwtTokens
from streams.credentials import Claims, RefusedError
from streams.job import TransientError
from tests.access_doubles import Gate
from tests.gateway_doubles import JOB

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "a secret of thirty-two bytes or more"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
US = "https://id.example"


def pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def issuer(algorithm: Any, key: str, name: str = US, **more: Any) -> Issuer:
    return Issuer(issuer=name, audience="keylane", algorithm=algorithm, keys=OneKey(algorithm, key), **more)


def claims(**changes: Any) -> dict[str, Any]:
    made = {
        "iss": US,
        "aud": "keylane",
        "sub": "u-1",
        "tenant": "steppe",
        "scope": "jobs:write jobs:read",
        "exp": time.time() + 60,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def by_hand(header: Mapping[str, Any], body: Mapping[str, Any], key: bytes | None) -> str:
    """A token that no library would make."""
    signed = f"{segment(header)}.{segment(body)}"
    signature = b"" if key is None else hmac.digest(key, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kinds = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    (algorithm,) = (found for kind, found in kinds.items() if isinstance(key, kind))
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("algorithm", "signing", "verifying"),
    [("HS256", SECRET, SECRET), ("RS256", RSA, pem(RSA)), ("ES256", EC, pem(EC)), ("EdDSA", ED, pem(ED))],
)
async def test_a_good_token_says_who_it_is(algorithm: str, signing: Any, verifying: str) -> None:
    found = await JwtTokens([issuer(algorithm, verifying)]).verify(jwt.encode(claims(), signing, algorithm))
    assert found == Claims(US, "u-1", "steppe", frozenset({"jobs:write", "jobs:read"}))


async def test_the_names_of_claims_are_the_issuers_and_scopes_may_be_a_list() -> None:
    tokens = JwtTokens([issuer("HS256", SECRET, tenant_claim="org", scopes_claim="permissions")])
    body = claims(tenant=None, scope=None, org="forest", permissions=["admin"])
    assert await tokens.verify(jwt.encode(body, SECRET)) == Claims(US, "u-1", "forest", frozenset({"admin"}))


RS, HS = issuer("RS256", pem(RSA)), issuer("HS256", SECRET, name="https://other.example")
NOW = time.time()
CONFUSED = {
    "none": by_hand({"alg": "none"}, claims(), None),
    "None, spelled otherwise": by_hand({"alg": "nOnE", "typ": "JWT"}, claims(), None),
    "none, with a signature": by_hand({"alg": "none"}, claims(), b"x"),
    "HS256 with the RSA public key": by_hand({"alg": "HS256"}, claims(), pem(RSA).encode()),
    "HS256 with the RSA public key, without its last line break": by_hand(
        {"alg": "HS256"}, claims(), pem(RSA).strip().encode()
    ),
    "HS256 with an empty key": by_hand({"alg": "HS256"}, claims(), b""),
    "the other issuer's algorithm and key": jwt.encode(claims(), SECRET),
    "the other issuer's name, our key": jwt.encode(claims(iss="https://other.example"), RSA, "RS256"),
    "a stranger's key": jwt.encode(claims(), OTHER, "RS256"),
    "a stranger's key, named by jku": jwt.encode(
        claims(), OTHER, "RS256", {"jku": "https://evil.example/jwks", "kid": "evil"}
    ),
    "a stranger's key, inside the token": jwt.encode(claims(), OTHER, "RS256", {"jwk": jwk(OTHER, "evil")}),
    "a stranger's key, named by x5u": jwt.encode(claims(), OTHER, "RS256", {"x5u": "https://evil.example/c.pem"}),
    "PS256 instead of RS256": jwt.encode(claims(), RSA, "PS256"),
    "RS512 instead of RS256": jwt.encode(claims(), RSA, "RS512"),
    "an unknown critical header": jwt.encode(claims(), RSA, "RS256", {"crit": ["exp"], "exp": 1}),
    "an unknown issuer": jwt.encode(claims(iss="https://evil.example"), RSA, "RS256"),
    "no issuer": jwt.encode(claims(iss=None), RSA, "RS256"),
    "an issuer that is a list": by_hand({"alg": "RS256"}, claims(iss=[US]), b"x"),
    "another audience": jwt.encode(claims(aud="billing"), RSA, "RS256"),
    "no audience": jwt.encode(claims(aud=None), RSA, "RS256"),
    "no end": jwt.encode(claims(exp=None), RSA, "RS256"),
    "over for longer than the leeway": jwt.encode(claims(exp=NOW - 31), RSA, "RS256"),
    "not valid yet": jwt.encode(claims(nbf=NOW + 300), RSA, "RS256"),
    "no subject": jwt.encode(claims(sub=None), RSA, "RS256"),
    "no tenant": jwt.encode(claims(tenant=None), RSA, "RS256"),
    "an empty tenant": jwt.encode(claims(tenant=""), RSA, "RS256"),
    "a tenant with a slash": jwt.encode(claims(tenant="steppe/u-1"), RSA, "RS256"),
    "an endless subject": jwt.encode(claims(sub="u" * 201), RSA, "RS256"),
    "a tenant that is a list": jwt.encode(claims(tenant=["steppe"]), RSA, "RS256"),
    "scopes that are no scopes": jwt.encode(claims(scope={"admin": True}), RSA, "RS256"),
    "a changed payload": ".".join(
        (
            jwt.encode(claims(), RSA, "RS256").split(".")[0],
            segment(claims(scope="admin")),
            jwt.encode(claims(), RSA, "RS256").split(".")[2],
        )
    ),
    "nested without end": f"{'W1tb' * 1500}.{segment(claims())}.x",
    "a payload nested without end": f"{segment({'alg': 'RS256'})}.{'W1tb' * 1500}.x",
    "too long": jwt.encode(claims(more="x" * 9_000), RSA, "RS256"),
    "bytes that are no text": "\udcff.\udcff.\udcff",
    "nothing": "",
    "dots": "..",
}


@pytest.mark.parametrize("token", CONFUSED.values(), ids=CONFUSED)
async def test_a_token_that_confuses_is_refused(token: str) -> None:
    with pytest.raises(RefusedError):
        await JwtTokens([RS, HS]).verify(token)


async def test_clocks_may_be_half_a_minute_apart() -> None:
    token = jwt.encode(claims(exp=time.time() - 25), RSA, "RS256")
    assert (await JwtTokens([RS]).verify(token)).subject == "u-1"


@pytest.mark.parametrize(
    ("algorithm", "key", "wrong"),
    [
        ("HS256", "", "fewer than 32 bytes"),
        ("HS256", "x" * 31, "fewer than 32 bytes"),
        ("HS256", pem(RSA), "no secret"),
        ("RS256", "no PEM", "no public key for RS256"),
        ("RS256", pem(EC), "no public key for RS256"),
        ("RS256", private_pem(RSA).decode(), "no public key for RS256"),
        ("ES256", pem(ec.generate_private_key(ec.SECP384R1())), "no public key for ES256"),
        ("EdDSA", pem(RSA), "no public key for EdDSA"),
    ],
)
def test_a_key_that_does_not_fit_its_algorithm_is_refused(algorithm: Any, key: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        OneKey(algorithm, key)


class Publisher:
    """An issuer's key set at some address, and a clock."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.away, self.fetches, self.now = list(keys), False, 0, 0.0

    async def fetch(self) -> str:
        self.fetches += 1
        if self.away:
            raise OSError("away")
        return json.dumps({"keys": self.keys})

    def set(self) -> KeySet:
        return KeySet("RS256", self.fetch, clock=lambda: self.now, pause=30, lifetime=600)


async def verified(keys: KeySet, key: Any, kid: str | None) -> bool:
    tokens = JwtTokens(
        [Issuer(issuer=US, audience="keylane", algorithm="RS256", keys=keys)]
    )  # it has seen no token yet
    header = None if kid is None else {"kid": kid}
    try:
        await tokens.verify(jwt.encode(claims(), key, "RS256", header))
    except RefusedError:
        return False
    return True


async def test_a_key_set_is_fetched_once_and_again_for_an_id_it_did_not_have() -> None:
    published = Publisher(jwk(RSA, "1"))
    keys = published.set()
    assert all([await verified(keys, RSA, "1") for _ in range(3)])
    assert await verified(keys, RSA, None), "the only key needs no id"
    assert published.fetches == 1

    published.keys.append(jwk(OTHER, "2"))
    assert not await verified(keys, OTHER, "2"), "unknown ids fetch no more than once per pause"
    published.now += 30
    assert await verified(keys, OTHER, "2")
    assert not await verified(keys, OTHER, None)
    for number in range(100):
        assert not await verified(keys, OTHER, f"made up {number}")
    assert published.fetches == 2


async def test_while_an_issuer_is_away_its_last_known_keys_count() -> None:
    published = Publisher(jwk(RSA, "1"))
    keys = published.set()
    assert await verified(keys, RSA, "1")
    published.away = True
    published.now += 10_000
    assert await verified(keys, RSA, "1")
    assert not await verified(keys, OTHER, "2")
    published.away, published.keys = False, [jwk(OTHER, "2")]
    published.now += 30
    assert await verified(keys, OTHER, "2")
    assert not await verified(keys, RSA, "1"), "what is withdrawn counts no more"


async def test_an_issuer_whose_keys_were_never_seen_is_waited_for() -> None:
    published = Publisher()
    published.away = True
    with pytest.raises(TransientError):
        await verified(published.set(), RSA, "1")


async def test_of_a_key_set_only_signing_keys_of_the_algorithm_count() -> None:
    secret = {"kty": "oct", "k": segment(SECRET), "kid": "1"}
    published = Publisher(
        secret,
        jwk(EC, "2"),
        jwk(RSA, "3", use="enc"),
        jwk(RSA, "4", alg="RS512"),
        {"kty": "RSA", "kid": "5", "n": "?", "e": "?"},
        jwk(RSA, "6", use="sig", alg="RS256"),
    )
    keys = published.set()
    assert [kid for kid in "123456" if await verified(keys, RSA, kid)] == ["6"]


async def test_a_token_is_verified_once_a_minute_and_never_counts_beyond_its_end() -> None:
    published = Publisher(jwk(RSA, "1"))
    now = time.time()
    keys = KeySet("RS256", published.fetch, clock=lambda: published.now, pause=0, lifetime=0)
    tokens = JwtTokens([Issuer(issuer=US, audience="keylane", algorithm="RS256", keys=keys)], clock=lambda: now)
    lasting = jwt.encode(claims(exp=now + 600), RSA, "RS256", {"kid": "1"})
    ending = jwt.encode(claims(exp=now - 20), RSA, "RS256", {"kid": "1"})
    for _ in range(3):
        assert (await tokens.verify(lasting)).subject == (await tokens.verify(ending)).subject == "u-1"
    assert published.fetches == 2

    published.keys = [jwk(OTHER, "2")]
    now += 11
    with pytest.raises(RefusedError):
        await tokens.verify(ending)
    assert (await tokens.verify(lasting)).subject == "u-1"
    now += 50
    with pytest.raises(RefusedError):
        await tokens.verify(lasting)


async def test_of_the_tokens_seen_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.adapters.tokens._MOST", 3)
    tokens = JwtTokens([HS])
    for number in range(10):
        await tokens.verify(jwt.encode(claims(iss=HS.issuer, sub=f"u-{number}"), SECRET))
    assert [seen.claims.subject for seen in tokens._seen.values()] == ["u-7", "u-8", "u-9"]


async def test_a_callers_token_works_as_a_key_does() -> None:
    gate = Gate("key,jwt", tokens=JwtTokens([RS]))
    bench = gate.bench()
    async with bench.client() as client:

        async def asked(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return (await client.post("/api/v1/jobs", json=JOB, headers=headers)).status

        assert await asked(jwt.encode(claims(), RSA, "RS256")) == 202
        assert await asked(jwt.encode(claims(tenant="forest"), RSA, "RS256")) == 403
        assert await asked(jwt.encode(claims(scope="jobs:read"), RSA, "RS256")) == 403
        assert await asked(jwt.encode(claims(exp=1), RSA, "RS256")) == 401
        assert await asked(gate.key("jobs:write").text) == 202
