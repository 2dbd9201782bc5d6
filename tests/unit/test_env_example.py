from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from streams.settings import Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
LINES = re.findall(r"^(#?)KEYLANE_([A-Z0-9_]+)=(.+)$", EXAMPLE.read_text(), re.MULTILINE)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("KEYLANE_"):
            monkeypatch.delenv(name)


def test_every_setting_is_listed_once() -> None:
    assert sorted(name.lower() for _, name, _ in LINES) == sorted(Settings.model_fields)


def test_what_is_set_is_the_default() -> None:
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None)


def test_only_settings_without_a_default_are_commented_out() -> None:
    commented = {name.lower() for mark, name, _ in LINES if mark}
    assert commented == {name for name, field in Settings.model_fields.items() if field.default is None}


@pytest.mark.parametrize(("name", "value"), [(name, value) for mark, name, value in LINES if mark])
def test_the_examples_are_valid(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"KEYLANE_{name}", value)
    assert getattr(Settings(_env_file=None), name.lower()) is not None
