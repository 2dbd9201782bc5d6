from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
MAKE = shutil.which("make")


def make(*arguments: str) -> str:
    assert MAKE is not None, "these tests need make"
    # As from a shell, also when these tests were started by make.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run([MAKE, *arguments], cwd=ROOT, env=clean, check=True, capture_output=True, text=True).stdout


def test_help_lists_every_target() -> None:
    declared = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert declared is not None
    assert re.findall(r"^make ([a-z-]+)", make("help"), re.MULTILINE) == declared[1].split()


def test_test_runs_every_check_and_all_tests_in_this_order() -> None:
    commands = [line.removeprefix(".venv/bin/") for line in make("-n", "test").splitlines() if ".venv/bin/" in line]
    assert commands[-8:] == [
        "ruff check .",
        "ruff format --check .",
        "mypy",
        "lint-imports",
        "keylane schemas check",
        "python -m streams.dev.jars fetch",
        "pytest tests/chaos",  # alone: its brokers, workers and loads take all the processors there are
        "pytest --ignore tests/chaos -n 2 --dist loadfile --no-loadscope-reorder",  # each process has its own servers
    ]


@pytest.mark.parametrize(("arguments", "command"), [((), "keylane demo "), (("ONCE=1",), "keylane demo --once")])
def test_run_is_the_demonstration(arguments: tuple[str, ...], command: str) -> None:
    assert make("-n", "run", *arguments).splitlines()[-1].endswith(command)


def test_the_gate_runs_the_whole_test() -> None:
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & 0o111
    assert gate.read_text().splitlines()[-1] == "exec make test"


def test_locks_hold_hashes_and_no_addresses() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "--index-url" not in text


def test_hooks_are_local() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (\S+)", hooks) == ["local"]
