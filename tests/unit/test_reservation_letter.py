from __future__ import annotations

import json
from pathlib import Path

import pytest

import consumers
from consumers.reservation_notifications.handler import LETTER_NAMES, letter
from schemas.reservation_cancelled.model import Cancelled
from schemas.reservation_fields import ReservationFields

MODELS = {contract.name: contract.model for contract in LETTER_NAMES}
SAMPLES = json.loads((Path(consumers.__file__).parent / "reservation_notifications/samples.json").read_text())


def reservation(kind: str, **changes: str) -> ReservationFields:
    data = next(sample["data"] for sample in SAMPLES if sample["type"] == kind)
    found = MODELS[kind].model_validate_json(json.dumps({**data, **changes}))
    assert isinstance(found, ReservationFields)
    return found


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("reservation.confirmed", "Таны захиалга баталгаажлаа"),
        ("reservation.cancelled", "Таны захиалга цуцлагдлаа"),
        ("reservation.hold_expired", "Таны захиалгын хугацаа дууслаа"),
    ],
)
def test_each_event_has_its_letter_with_the_facts(kind: str, subject: str) -> None:
    event = reservation(kind)
    written = letter(event)
    assert written.subject == subject
    for body in (written.text, written.html):
        assert "Сараа" in body
        assert event.reservation_id in body
        assert "court-1" in body
        assert "2026 оны 12-р сарын 1, 10:00" in body


def test_a_cancellation_gives_its_reason_if_there_is_one() -> None:
    with_reason = reservation("reservation.cancelled")
    assert isinstance(with_reason, Cancelled)
    without = with_reason.model_copy(update={"reason": None})
    assert "Шалтгаан: Цаг өөрчлөгдсөн" in letter(with_reason).text
    assert "Шалтгаан" not in letter(without).html


def test_names_are_escaped_in_html() -> None:
    assert "<b>" not in letter(reservation("reservation.confirmed", customer_name="<b>Сараа</b>")).html
