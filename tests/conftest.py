"""Loads the fixtures that every folder of tests may use."""

import signal

pytest_plugins = ["tests.servers"]


def pytest_configure() -> None:
    """Let children be interrupted also where a shell has started the tests in the background, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
