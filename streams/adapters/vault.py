"""What the master keys are for, with ``cryptography``: keyed hashes, and secrets encrypted at rest.

    vault = Vault(masters("new:…,old:…"))

Invariant: a master key itself touches no data, only keys derived from it do (HKDF), one per purpose. New things are
made with the first master key; all of them read.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from streams.keys import SecretError

_LENGTH = 32  # bytes of a master key, and of what is derived from it
_NONCE = 12  # bytes, the length AES-GCM is specified for
_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_SEAL = "seal"


def masters(text: str) -> dict[str, bytes]:
    """The master keys of ``id:base64,id:base64``, the one for new things first.

    Raises:
        ValueError: An id is missing, malformed or there twice, or a key is not base64 of 32 bytes.
    """
    found: dict[str, bytes] = {}
    for place, entry in enumerate(text.split(","), 1):
        key_id, _, encoded = entry.strip().partition(":")
        if not _ID.fullmatch(key_id) or key_id in found:
            raise ValueError(f"entry {place} needs an id of its own: id:base64 of {_LENGTH} random bytes")
        found[key_id] = _decoded(key_id, encoded)
    return found


def new_master(key_id: str) -> str:
    """An entry with a new random key."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(_LENGTH)).decode()}"


class Vault:
    """The ``Secrets`` port; ``master_keys`` by id, the current one first."""

    def __init__(self, master_keys: dict[str, bytes]) -> None:
        self.current = next(iter(master_keys))
        self._masters = master_keys
        self._derived: dict[tuple[str, str], bytes] = {}

    def mac(self, key_id: str, purpose: str, text: bytes) -> bytes:
        """See ``Secrets.mac``: HMAC-SHA256."""
        return hmac.digest(self._key(key_id, purpose), text, "sha256")

    def seal(self, text: bytes, row: str) -> str:
        """See ``Secrets.seal``: AES-256-GCM."""
        nonce = secrets.token_bytes(_NONCE)
        packed = AESGCM(self._key(self.current, _SEAL)).encrypt(nonce, text, _place(self.current, row))
        return f"{self.current}:{base64.b64encode(nonce + packed).decode()}"

    def open(self, sealed: str, row: str) -> bytes:
        """See ``Secrets.open``."""
        key_id, _, encoded = sealed.partition(":")
        key = AESGCM(self._key(key_id, _SEAL))
        try:
            packed = base64.b64decode(encoded, validate=True)
            return key.decrypt(packed[:_NONCE], packed[_NONCE:], _place(key_id, row))
        except (InvalidTag, ValueError) as error:
            raise SecretError(f"what is encrypted in {row} was changed, or belongs to another row") from error

    def _key(self, key_id: str, purpose: str) -> bytes:
        found = self._derived.get((key_id, purpose))
        if found is None:
            found = self._derived[key_id, purpose] = self._derive(key_id, purpose)
        return found

    def _derive(self, key_id: str, purpose: str) -> bytes:
        master = self._masters.get(key_id)
        if master is None:
            raise SecretError(f"KEYLANE_SECRET_KEYS has no key {key_id!r}: add it again, behind the first one")
        return HKDF(algorithm=SHA256(), length=_LENGTH, salt=None, info=f"keylane/{purpose}".encode()).derive(master)


def _decoded(key_id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _LENGTH:
        raise ValueError(f"the key {key_id} is not base64 of {_LENGTH} bytes")
    return key


def _place(key_id: str, row: str) -> bytes:
    return f"{key_id}\n{row}".encode()
