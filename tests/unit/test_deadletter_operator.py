from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from streams.app.tools import has_ended, operator


def test_a_process_of_this_host_that_is_gone_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert has_ended(f"somebody@{socket.gethostname()}:{child.pid}")


@pytest.mark.parametrize("name", ["somebody@elsewhere:1", "nonsense", "a@b", "", f"x@{socket.gethostname()}:1x"])
def test_of_others_nothing_is_known(name: str) -> None:
    assert not has_ended(name)


def test_this_process_lives() -> None:
    assert operator().endswith(f":{os.getpid()}")
    assert not has_ended(operator())
