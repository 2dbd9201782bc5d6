"""A mode that lacks what it needs stops the start, and no address others can reach is served without credentials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from streams.adapters.jwks import KeySet, OneKey
from streams.adapters.vault import new_master
from streams.app.access import modes_of, tokens_of, vault_of
from streams.app.gateway import url_of
from streams.settings import Settings, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = SecretStr(new_master("a"))
SECRET = "a secret of thirty-two bytes or more"
ISSUER = {"issuer": "https://id.example", "audience": "keylane", "algorithm": "HS256", "key": SECRET}


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


def issuers(*entries: dict[str, Any]) -> SecretStr:
    return SecretStr(json.dumps(entries))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"gateway_auth": "keys"}, r"KEYLANE_GATEWAY_AUTH: 'keys' is no mode"),
        ({"gateway_auth": ""}, r"KEYLANE_GATEWAY_AUTH: '' is no mode"),
        ({"gateway_auth_routes": "{"}, r"KEYLANE_GATEWAY_AUTH_ROUTES: .*JSON"),
        ({"gateway_auth_routes": '{"/api": "open"}'}, r"KEYLANE_GATEWAY_AUTH_ROUTES: 'open' is no mode"),
        ({"gateway_auth": "key"}, r"KEYLANE_SECRET_KEYS: the modes key and hmac need it; 'keylane keys secret'"),
        ({"gateway_auth_routes": '{"/api": "hmac"}'}, r"KEYLANE_SECRET_KEYS: "),
        ({"gateway_auth": "key,jwt", "secret_keys": KEYS}, r"KEYLANE_JWT_ISSUERS: the mode jwt needs it"),
    ],
)
def test_modes_that_cannot_be_kept_stop_the_start(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        modes_of(settings(**changes))


def test_master_keys_that_are_malformed_stop_the_start_and_are_not_repeated() -> None:
    assert vault_of(settings()) is None
    with pytest.raises(SettingsError, match=r"^KEYLANE_SECRET_KEYS: the key a is not base64 of 32 bytes$"):
        vault_of(settings(secret_keys=SecretStr("a:hunter2")))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"key": ""}, "key"),
        ({"key": "short"}, "https://id.example: the secret has fewer than 32 bytes"),
        ({"key": None}, "one of key, key_file and jwks_url"),
        ({"jwks_url": "https://id.example/jwks"}, "one of key, key_file and jwks_url"),
        ({"key": None, "jwks_url": "https://id.example/jwks"}, "not for HS256"),
        ({"algorithm": "RS256", "key": None, "jwks_url": "http://id.example/jwks"}, "https address"),
        ({"algorithm": "none"}, "algorithm: Input should be 'HS256', 'RS256', 'ES256' or 'EdDSA'"),
        ({"algorithm": "RS256"}, "no public key for RS256"),
        ({"audience": ""}, "audience"),
        ({"key": None, "key_file": "/nowhere"}, "https://id.example: .*No such file"),
        ({"leeway": 300}, "leeway"),
    ],
)
def test_an_issuer_that_cannot_be_trusted_stops_the_start_and_no_secret_is_repeated(
    changes: dict[str, Any], wrong: str
) -> None:
    entry = {name: value for name, value in (ISSUER | changes).items() if value is not None}
    with pytest.raises(SettingsError, match=rf"^KEYLANE_JWT_ISSUERS: .*{wrong}") as refused:
        tokens_of(settings(jwt_issuers=issuers(entry)))
    assert SECRET not in str(refused.value)


def test_an_issuer_is_named_once() -> None:
    for entries in ((), (ISSUER, ISSUER)):
        with pytest.raises(SettingsError, match="names no issuer, or one twice"):
            tokens_of(settings(jwt_issuers=issuers(*entries)))


def test_a_key_may_come_from_a_file_or_from_the_issuer(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    bare = {name: value for name, value in ISSUER.items() if name != "key"}
    of_file = tokens_of(settings(jwt_issuers=issuers(bare | {"key_file": str(tmp_path / "secret")})))
    published = {"algorithm": "ES256", "jwks_url": "https://id.example/jwks"}
    of_issuer = tokens_of(settings(jwt_issuers=issuers(bare | published)))
    kinds = [type(each.keys) for tokens in (of_file, of_issuer) for each in tokens._issuers.values()]
    assert kinds == [OneKey, KeySet]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, r"by default \(KEYLANE_GATEWAY_AUTH\)"),
        ({"gateway_auth": "none,key"}, r"by default \(KEYLANE_GATEWAY_AUTH\)"),
        (
            {"gateway_auth": "key", "gateway_auth_routes": '{"/api/v1/events": "none,hmac"}'},
            r"/api/v1/events \(KEYLANE_GATEWAY_AUTH_ROUTES\)",
        ),
    ],
)
def test_where_nobody_needs_credentials_only_this_machine_is_served(changes: dict[str, Any], named: str) -> None:
    reachable = settings(secret_keys=KEYS, gateway_host="192.0.2.7", **changes)
    with pytest.raises(SettingsError, match=rf"^KEYLANE_GATEWAY_HOST: 192.0.2.7 can be reached .*{named}.*ALLOW_OPEN"):
        url_of(reachable)
    assert url_of(reachable.model_copy(update={"gateway_allow_open": True})) == "http://192.0.2.7:8080"
    for host in ("127.0.0.1", "::1", "localhost"):
        url_of(reachable.model_copy(update={"gateway_host": host}))


def test_where_everybody_needs_credentials_other_machines_are_served() -> None:
    closed = settings(secret_keys=KEYS, gateway_host="192.0.2.7", gateway_auth="key,hmac")
    assert url_of(closed) == "http://192.0.2.7:8080"
