from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.arithmetic import Spread
from tests.bench.page import Chapter, Target, rates, write
from tests.bench.result import Result

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("median", "at_least", "met"), [(2, True, True), (1, True, True), (2, False, False)])
def test_the_median_decides_whether_a_target_is_met(median: float, at_least: bool, met: bool) -> None:
    found = Spread(0.5, median, 3)
    assert Target(what="x", found=found, bound=1, at_least=at_least).met is met


def test_a_target_that_is_missed_stands_out() -> None:
    row = Target(what="to the limit", found=Spread(0.1, 0.2, 0.3), bound=0.5).row
    assert row == ["to the limit", "≥ 0.5 ×", "0.10", "0.20", "0.30", "**no**"]  # noqa: RUF001


def test_a_system_that_cheats_in_one_round_shows() -> None:
    sound = Result(rate=100, cpu=1e-5, count=10, distinct=10, disordered=0)
    cheat = Result(rate=900, cpu=1e-5, count=8, distinct=10, disordered=3)
    assert rates({"x": [sound, sound, cheat]}) == [["x", "100", "10.0", "**no**: 2", "**broken**: 3"]]


def test_only_what_stands_between_the_markers_is_written_over(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- soak -->\nold\n<!-- end of soak -->\nafter\n")
    target = Target(what="slope", found=Spread(0, 0, 0), bound=1)
    write("soak", [Chapter(title="Soak", text="New.", head=("a",), rows=[["1"]], targets=[target])], "make soak", page)
    text = page.read_text()
    assert text.startswith("before\n<!-- soak -->\n\n`make soak` on ")
    assert text.endswith("<!-- end of soak -->\nafter\n")
    assert "| a |\n| --- |\n| 1 |" in text
    assert "old" not in text


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no <!-- soak -->"):
        write("soak", [], "make soak", page)
    assert page.read_text() == "nothing"
