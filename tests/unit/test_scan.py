"""What a restore scan keeps of a record is what admitting the record reads from its headers, at a small price."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from streams.core import headers
from streams.core.commit_map import encode
from streams.core.headers import SOURCE, Level, Place
from streams.core.restore import Shelf, restore
from streams.core.scan import NO_ORIGIN, Scan
from streams.core.track import SHELF_SOURCE, parse_moved

NAMES = (
    headers.LEVEL,
    headers.FROM,
    headers.MOVER,
    headers.HOLD,
    headers.CLASSIFICATION,
    headers.CONTROL,
    headers.ORIGIN_OFFSET,
    "ce_id",
)
VALUES = (
    b"source",
    b"0.0.1",
    b"1.dlt",
    b"0.0.1@7",
    b"source@12",
    b"@3",
    b"x@",
    b"1",
    b"01",
    b"follower",
    b"\xff",
    None,
)
TIERS = (60.0,)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=20))))
def test_a_scan_reads_what_admitting_the_record_reads(record_headers: list[tuple[str, bytes]]) -> None:
    scan, moved = Scan(), parse_moved(record_headers)
    scan.add(3, b"k", [])
    scan.add(5, b"k", record_headers)

    _, (offset, key, way, left_at, origin) = scan

    assert (offset, key) == (5, b"k")
    assert (way.level, way.mover, way.hold, way.follower, way.control) == (
        moved.level,
        moved.mover,
        moved.hold,
        moved.follower,
        moved.control,
    )
    assert (None if way.left is None else Place(way.left, left_at)) == moved.came_from
    assert (None if origin == NO_ORIGIN else origin) == moved.origin


def moved_headers(origin: int, level: str = "0.0.1", left: str | None = None) -> list[tuple[str, bytes]]:
    way = {
        headers.LEVEL: level,
        headers.FROM: left or f"source@{origin}",
        headers.MOVER: "m",
        headers.ORIGIN_OFFSET: str(origin),
    }
    return headers.replaced([], way)


def test_a_record_of_known_key_and_way_costs_tens_of_bytes() -> None:
    scan = Scan()
    tracemalloc.start()
    for offset in range(20_000):
        scan.add(offset, f"key-{offset % 10}".encode(), moved_headers(offset))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(scan) == 20_000
    assert held < 20_000 * 60


def test_records_whose_source_is_committed_far_below_them_are_finished_there() -> None:
    scan = Scan()
    for offset, origin in enumerate((4, 2, 3, 9)):
        scan.add(offset, b"k", moved_headers(origin))
    shelves = {SHELF_SOURCE: Shelf(0, encode(0, [(2, 3)], None)[0], 12), 1: Shelf(0, "", 10, scan)}

    lanes = restore(0, TIERS, "m", {**shelves, 0: Shelf(0), headers.DLT: Shelf(0)})

    assert list(lanes.source.ahead) == [(2, 5), (9, 10)]
    assert lanes.outstanding.count(Level(0, 0, 1)) == 4
    assert lanes.outstanding.top(b"k") > SOURCE


def test_of_copies_with_one_origin_the_highest_counts_although_no_hop_between_them_is_told() -> None:
    low, high = Scan(), Scan()
    low.add(0, b"k", moved_headers(7))
    low.add(1, b"k", moved_headers(8))
    high.add(0, b"k", moved_headers(7, "0.0.2", "0.0.1@99"))
    shelves = {SHELF_SOURCE: Shelf(9), 1: Shelf(0, "", 2, low), 2: Shelf(0, "", 1, high)}

    lanes = restore(0, (1.0, 60.0), "m", {**shelves, 0: Shelf(0), headers.DLT: Shelf(0)})

    assert lanes.tracks[1].is_finished(0)
    assert [lanes.outstanding.count(Level(0, 0, tier)) for tier in (1, 2)] == [1, 1]
