from __future__ import annotations

import base64

import pytest

from streams.adapters.vault import Vault, masters, new_master
from streams.keys import Order, SecretError, issue

GIVEN = base64.b64encode(bytes(32)).decode()
ORDER = Order(name="ours", scopes=frozenset({"jobs:write"}), tenant="steppe")


def vault(*ids: str) -> Vault:
    return Vault(masters(",".join(map(new_master, ids))))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "entry 1 needs an id"),
        ("no-key", "no-key is not base64 of 32 bytes"),
        (f"short:{base64.b64encode(bytes(31)).decode()}", "short is not base64 of 32 bytes"),
        ("a:!!!", "a is not base64"),
        (f"a:{GIVEN},a:{GIVEN}", "entry 2 needs an id of its own"),
    ],
)
def test_master_keys_that_are_none_are_refused_without_being_repeated(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as refused:
        masters(text)
    assert all(part.partition(":")[2] not in str(refused.value) for part in text.split(",") if ":" in part)


def test_what_is_sealed_is_opened_for_its_own_row_alone() -> None:
    safe = vault("a")
    sealed = safe.seal(b"secret", "api_keys/1")
    assert safe.open(sealed, "api_keys/1") == b"secret"
    assert safe.seal(b"secret", "api_keys/1") != sealed, "each with a nonce of its own"
    with pytest.raises(SecretError, match="api_keys/2 was changed, or belongs to another row"):
        safe.open(sealed, "api_keys/2")


@pytest.mark.parametrize("place", [3, -2])
def test_a_changed_byte_is_noticed(place: int) -> None:
    safe = vault("a")
    key_id, _, encoded = safe.seal(b"secret", "row").partition(":")
    packed = bytearray(base64.b64decode(encoded))
    packed[place] ^= 1
    with pytest.raises(SecretError, match="was changed"):
        safe.open(f"{key_id}:{base64.b64encode(packed).decode()}", "row")


def test_after_a_rotation_the_old_is_read_and_the_new_is_made_with_the_new_key() -> None:
    old, new = new_master("old"), new_master("new")
    before = Vault(masters(old))
    issued, sealed = issue(ORDER, before, by="me", now=0), before.seal(b"secret", "row")

    rotated = Vault(masters(f"{new},{old}"))
    assert issued.key.fits(issued.text, rotated)
    assert rotated.open(sealed, "row") == b"secret"
    assert rotated.seal(b"secret", "row").startswith("new:")
    assert issue(ORDER, rotated, by="me", now=0).key.secret_id == "new"

    after = Vault(masters(new))
    with pytest.raises(SecretError, match="KEYLANE_SECRET_KEYS has no key 'old'"):
        issued.key.fits(issued.text, after)


def test_each_purpose_has_a_key_of_its_own() -> None:
    safe = vault("a")
    assert safe.mac("a", "api-key", b"text") != safe.mac("a", "audit", b"text")


def test_what_is_kept_of_a_key_does_not_hold_its_texts() -> None:
    issued = issue(ORDER, vault("a"), by="me", now=0)
    secret = issued.text.rpartition("_")[2]
    kept = f"{issued.key} {issued.key.described()} {issued.key.digest.hex()} {issued.key.signing}"
    assert secret not in kept
    assert issued.signing_secret not in kept
    assert len(bytes.fromhex(secret)) * 8 >= 128
    assert len({issue(ORDER, vault("a"), by="me", now=0).text for _ in range(100)}) == 100


def test_a_key_without_a_tenant_is_for_admins_alone() -> None:
    with pytest.raises(ValueError, match="needs a tenant"):
        Order(name="ours", scopes=frozenset({"jobs:write"}), tenant=None)
    assert Order(name="ours", scopes=frozenset({"admin"}), tenant=None).tenant is None


@pytest.mark.parametrize("tenant", ["", "a/b", "a b", "a\n", "a" * 129])
def test_a_tenant_that_can_own_no_record_gets_no_key(tenant: str) -> None:
    with pytest.raises(ValueError, match="a tenant has up to 128 characters"):
        Order(name="ours", scopes=frozenset({"jobs:write"}), tenant=tenant)
