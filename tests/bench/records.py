"""The record all systems read: its Avro schema, and how a program without a framework decodes it.

Invariant: imports nothing of keylane, so that a peer's environment can load it.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro

TENANTS = 20
SCHEMA_ID = 1
PREFIX = b"\0" + SCHEMA_ID.to_bytes(4, "big")
NAME = "bench.placed"
SCHEMA = """{"type": "record", "name": "Placed", "namespace": "keylane.bench", "fields": [
  {"name": "order_id", "type": "string"},
  {"name": "customer_id", "type": "string"},
  {"name": "customer_email", "type": "string"},
  {"name": "product", "type": "string"},
  {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["placed", "paid", "shipped"]}},
  {"name": "amount", "type": "long"},
  {"name": "note", "type": ["null", "string"], "default": null},
  {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "sent_us", "type": "long"},
  {"name": "sequence", "type": "long"}
]}"""
PARSED = fastavro.parse_schema(json.loads(SCHEMA))


def entity(number: int) -> str:
    """The name of a key's entity."""
    return f"order-{number:05}"


def key(number: int) -> bytes:
    """The record key ``<tenant>/<entity>``."""
    return f"tenant-{number % TENANTS:02}/{entity(number)}".encode()


def decode(value: bytes) -> dict[str, Any]:
    """The fields of a value in Confluent wire format, whose five first bytes are taken for granted."""
    stream = BytesIO(value)
    stream.seek(5)
    return fastavro.schemaless_reader(stream, PARSED)  # type: ignore[return-value]
