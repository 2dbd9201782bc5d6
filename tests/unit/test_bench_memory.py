"""The engine fed from memory runs every record once and in order, in each of its modes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", [(), ("--batch",), ("--hot", "0.5"), ("--wait", "0.001", "--concurrency", "50")])
def test_the_engine_is_fed_from_memory_and_tells_its_cost(mode: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.bench.memory", "--count", "500", "--rounds", "1", *mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # it ends with an error where a record is missing or out of order
    assert "CPU per record" in done.stdout
