"""Who a record is to a provider: the same for every run, and nobody else."""

from __future__ import annotations

from streams.identity import identify
from tests.simulation.broker import Rec


def key_of(record_key: str, record_id: str, group: str = "payments") -> str:
    record = Rec("jobs.payments", 0, 7, 0, record_key.encode(), b"", (("ce_id", record_id.encode()),))
    return identify(record).idempotency_key(group)


def test_an_id_that_two_tenants_chose_is_two_idempotency_keys() -> None:
    assert key_of("acme/u-1", "order-1") != key_of("globex/u-1", "order-1")


def test_two_groups_that_handle_one_event_have_a_key_each() -> None:
    assert key_of("acme/u-1", "order-1") != key_of("acme/u-1", "order-1", group="mails")


def test_a_key_is_short_enough_for_providers_and_long_ids_stay_apart() -> None:
    long, longer = key_of("acme/u-1", "x" * 500), key_of("acme/u-1", "x" * 501)
    assert max(len(long), len(longer)) <= 200
    assert long != longer
