"""The page's table is filled row by row, and tells of one machine only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import report
from tests.chaos.report import BEGIN, END

if TYPE_CHECKING:
    from pathlib import Path

ORDER = ["kills", "drain"]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n\nnothing yet\n\n{END}\nafter\n")
    return page


def rows(page: Path) -> list[str]:
    return [line for line in page.read_text().splitlines() if line.startswith("|")][2:]


def test_rows_come_in_the_reports_order_and_stay_until_they_are_played_again(page: Path) -> None:
    report.merge({"drain": "| drain | old |"}, ORDER, page)
    report.merge({"kills": "| kills | new |"}, ORDER, page)
    assert rows(page) == ["| kills | new |", "| drain | old |"]
    report.merge({"drain": "| drain | new |"}, ORDER, page)
    assert rows(page) == ["| kills | new |", "| drain | new |"]


def test_rows_of_another_machine_do_not_stay(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.merge({"drain": "| drain | old |"}, ORDER, page)
    monkeypatch.setattr(report, "machine", lambda: "another one")
    report.merge({"kills": "| kills | new |"}, ORDER, page)
    assert rows(page) == ["| kills | new |"]


def test_nothing_outside_the_markers_is_touched(page: Path) -> None:
    report.merge({"drain": "| drain | old |"}, ORDER, page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
