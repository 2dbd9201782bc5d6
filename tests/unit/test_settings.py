"""One settings object, read once; what is wrong is named."""

from __future__ import annotations

import pytest

from streams.settings import SettingsError, load


def test_each_malformed_variable_is_named_with_what_is_wrong(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEYLANE_GATEWAY_PORT", "eighty")
    monkeypatch.setenv("KEYLANE_MAIL_TRANSPORT", "pigeon")
    with pytest.raises(
        SettingsError, match=r"KEYLANE_GATEWAY_PORT: .*integer.*; KEYLANE_MAIL_TRANSPORT: .*'log' or 'smtp'"
    ):
        load()


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("KEYLANE_GATEWAY_PORT=8081\nKEYLANE_LOG_LEVEL=debug\n")
    monkeypatch.setenv("KEYLANE_GATEWAY_PORT", "8082")
    assert (load().gateway_port, load().log_level) == (8082, "debug")


def test_the_registry_is_the_gateways_unless_another_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load().registry_url == "http://127.0.0.1:8080/registry"
    monkeypatch.setenv("KEYLANE_SCHEMA_REGISTRY_URL", "http://registry:8081")
    assert load().registry_url == "http://registry:8081"
