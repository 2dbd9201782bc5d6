from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.letters import moment
from consumers.signin.browser import browser_of
from consumers.signin.handler import letter
from schemas.notification_signin.model import Signin

BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/142.0.0.0 Safari/537.36"


def signin(**changes: Any) -> Signin:
    fields: dict[str, Any] = {
        "user_id": "user-1",
        "email": "bat@example.com",
        "name": "Бат-Эрдэнэ",
        "provider": "google",
        "ip_address": "203.0.113.7",
        "user_agent": CHROME,
        "timestamp": datetime(2026, 11, 24, 2, 5, tzinfo=UTC),
    }
    return Signin(**{**fields, **changes})


@pytest.mark.parametrize("body", ["text", "html"])
def test_both_bodies_tell_in_mongolian_who_when_where_and_with_what(body: str) -> None:
    written = getattr(letter(signin()), body)
    for part in ("Сайн байна уу, Бат-Эрдэнэ!", "2026 оны 11-р сарын 24, 10:05", "google", "203.0.113.7", "Chrome 142"):
        assert part in written
    assert "Windows" in written
    assert "анхааруулга" in written.casefold()
    assert "нууц үгээ нэн даруй солиж" in written


def test_the_subject_is_one_mongolian_line() -> None:
    assert letter(signin()).subject == "Таны бүртгэлд шинээр нэвтэрлээ"


def test_what_a_user_typed_is_escaped_in_html_and_left_alone_in_text() -> None:
    nasty = letter(signin(name="<script>alert('x')</script>", user_agent="<img src=x>"))
    assert "<script>" not in nasty.html
    assert "&lt;script&gt;" in nasty.html
    assert "<script>alert('x')</script>" in nasty.text


def test_a_template_in_a_name_is_not_evaluated() -> None:
    assert "{{ 7*7 }}" in letter(signin(name="{{ 7*7 }}")).text


@pytest.mark.parametrize(
    ("locale", "opening"),
    [("mn", "Сайн байна уу"), ("mn-MN", "Сайн байна уу"), ("en-GB", "Hello"), ("fr", "Сайн байна уу")],
)
def test_the_language_follows_the_locale_and_is_mongolian_where_nothing_is_written(locale: str, opening: str) -> None:
    assert letter(signin(locale=locale)).text.startswith(opening)


def test_english_readers_get_an_english_date_in_ulaanbaatar_time() -> None:
    assert "24 November 2026, 10:05 (UTC+8)" in letter(signin(locale="en")).html


def test_an_unknown_browser_is_called_unknown() -> None:
    assert letter(signin(user_agent="curl/8.0")).text.count("тодорхойгүй") == 2


def test_the_day_changes_at_midnight_in_ulaanbaatar() -> None:
    assert moment(datetime(2026, 1, 4, 15, 59, tzinfo=UTC)) == "2026 оны 1-р сарын 4, 23:59"
    assert moment(datetime(2026, 1, 4, 16, 0, tzinfo=UTC)) == "2026 оны 1-р сарын 5, 00:00"


@pytest.mark.parametrize(
    ("user_agent", "name", "system"),
    [
        (CHROME, "Chrome 142", "Windows"),
        (CHROME + " Edg/142.0.0.0", "Edge 142", "Windows"),
        (CHROME + " OPR/120.0.0.0", "Opera 120", "Windows"),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.1 Safari/605.1.15",
            "Safari 18",
            "macOS",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {WEBKIT} Version/18.1 Mobile/15E148 Safari/604.1",
            "Safari 18",
            "iOS",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {WEBKIT} CriOS/142.0 Mobile/15E148 Safari/604.1",
            "Chrome 142",
            "iOS",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 15; SM-S921B) {BLINK} SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36",
            "Samsung Internet 28",
            "Android",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox 145", "Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer 11", "Windows"),
        ("curl/8.0", None, None),
        ("", None, None),
    ],
)
def test_a_browser_is_known_by_the_name_people_use(user_agent: str, name: str | None, system: str | None) -> None:
    assert browser_of(user_agent) == (name, system)
