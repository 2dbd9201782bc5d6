"""The three import names must lead to this distribution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from streams.packages import check_packages

ROOT = Path(__file__).parents[2]


def test_the_three_names_are_ours() -> None:
    check_packages()


def test_a_foreign_package_of_one_of_our_names_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; from streams.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert f"the package 'schemas' is taken from {tmp_path / 'schemas'}" in done.stderr
    assert "Traceback" not in done.stderr
