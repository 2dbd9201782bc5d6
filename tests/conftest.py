"""Loads the fixtures that every folder of tests may use, and sets what holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers"]

# How long an example takes tells of the machine. The other health checks tell of the strategy, and stay.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Let children be interrupted also where a shell has started the tests in the background, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
