from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from streams.adapters.mail import LogMail, MeteredMail, SmtpMail, compose, masked, transport
from streams.adapters.metrics import PrometheusMetrics
from streams.ports import Email, MailRefusedError
from streams.settings import Settings
from tests.consumer_context import Outbox

if TYPE_CHECKING:
    from pathlib import Path

SENDER = "Дэлгүүр <no-reply@shop.example>"


def email(**changes: str) -> Email:
    fields = {
        "to": "bat@example.com",
        "subject": "Таны бүртгэлд шинээр нэвтэрлээ",
        "text": "Сайн байна уу",
        "html": "<p>Сайн байна уу</p>",
        "message_id": "<one@keylane>",
    }
    return Email(**{**fields, **changes})


def test_a_message_carries_both_bodies_as_utf8_with_the_better_one_last() -> None:
    parsed = message_from_bytes(compose(email(), SENDER).as_bytes(), policy=default)
    assert parsed.get_content_type() == "multipart/alternative"
    plain, html = parsed.iter_parts()  # type: ignore[attr-defined]  # a multipart message has parts
    assert (plain.get_content_type(), plain.get_content_charset()) == ("text/plain", "utf-8")
    assert (html.get_content_type(), html.get_content_charset()) == ("text/html", "utf-8")
    assert plain.get_content().strip() == "Сайн байна уу"
    assert html.get_content().strip() == "<p>Сайн байна уу</p>"
    assert parsed["Subject"] == "Таны бүртгэлд шинээр нэвтэрлээ"
    assert parsed["From"] == SENDER
    assert parsed["Message-ID"] == "<one@keylane>"
    assert parsed["Date"]


@given(
    field=st.sampled_from(["to", "subject", "message_id"]),
    before=st.text(max_size=5),
    evil=st.sampled_from("\r\n\0\v\x85\u2028"),
    after=st.text(max_size=20),
)
def test_a_header_with_a_line_break_or_nul_is_refused(field: str, before: str, evil: str, after: str) -> None:
    with pytest.raises(MailRefusedError, match=field):
        compose(email(**{field: before + evil + after}), SENDER)


@given(st.text(max_size=30))
def test_no_subject_can_add_a_header(subject: str) -> None:
    try:
        raw = compose(email(subject=subject), SENDER).as_bytes()
    except MailRefusedError:
        return
    parsed = message_from_bytes(raw, policy=default)
    known = {"From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted", "Content-Type", "MIME-Version"}
    assert set(parsed.keys()) == known


@pytest.mark.parametrize("to", ["", "nobody", "a@b@c", "two@example.com, more@example.com", "<x@example.com>"])
def test_what_is_not_one_address_is_refused(to: str) -> None:
    with pytest.raises(MailRefusedError):
        compose(email(to=to), SENDER)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("bat.erdene@example.com", "b***@example.com"),
        ("b@example.com", "b***@example.com"),
        ("nonsense", "***@nonsense"),
    ],
)
def test_a_masked_address_shows_one_letter_and_the_domain(address: str, shown: str) -> None:
    assert masked(address) == shown


async def test_the_log_transport_writes_one_line_without_address_and_bodies() -> None:
    with capture_logs() as lines:
        await LogMail().send(email())
    (line,) = lines
    assert line["to"] == "b***@example.com"
    assert line["message_id"] == "<one@keylane>"
    assert "bat@" not in str(line)
    assert "Сайн" not in str(line)


async def test_the_log_transport_refuses_injection_as_the_others_do() -> None:
    with pytest.raises(MailRefusedError):
        await LogMail().send(email(subject="a\r\nBcc: everybody@example.com"))


def test_the_settings_choose_the_transport() -> None:
    assert isinstance(transport(Settings(_env_file=None)), LogMail)
    smtp = Settings(_env_file=None, mail_transport="smtp", smtp_password=SecretStr("x"), smtp_username="u")
    assert isinstance(transport(smtp), SmtpMail)


def test_a_sender_without_an_address_stops_the_start() -> None:
    with pytest.raises(ValueError, match="KEYLANE_MAIL_FROM"):
        SmtpMail(host="127.0.0.1", port=25, sender="Shop")


def test_an_authority_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, mail_transport="smtp", smtp_ssl_cafile=tmp_path / "missing.pem")
    with pytest.raises(FileNotFoundError):
        transport(settings)


async def test_every_mail_is_counted_by_how_it_ended_and_timed() -> None:
    metrics = PrometheusMetrics()
    mail = MeteredMail(Outbox(MailRefusedError("no such user"), OSError("away")), "smtp", metrics)
    with pytest.raises(MailRefusedError):
        await mail.send(email())
    with pytest.raises(OSError, match="away"):
        await mail.send(email())
    await mail.send(email())
    await mail.send(email())
    shown = metrics.text().decode()
    for outcome, count in {"refused": 1, "failed": 1, "sent": 2}.items():
        assert f'keylane_emails_total{{outcome="{outcome}",transport="smtp"}} {count}.0' in shown
    assert 'keylane_email_send_duration_seconds_count{transport="smtp"} 4.0' in shown
