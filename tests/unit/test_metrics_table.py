from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.adapters.metrics import PrometheusMetrics
from streams.metrics import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ROWS = {metric.name: metric for metric in TABLE}
KINDS = {"inc": {"counter", "gauge"}, "set": {"gauge"}, "observe": {"histogram"}, "observe_all": {"histogram"}}
NAME = re.compile(r"keylane_[a-z0-9_]+")


class Call(NamedTuple):
    place: str
    method: str
    name: str
    labels: frozenset[str]


def python_files() -> list[Path]:
    return [path for folder in ("streams", "consumers") for path in sorted((ROOT / folder).rglob("*.py"))]


def calls() -> Iterator[Call]:
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            receiver = ast.unparse(node.func.value)
            first = node.args[0]
            if node.func.attr in KINDS and receiver.endswith("metrics") and isinstance(first, ast.Constant):
                labels = frozenset(keyword.arg for keyword in node.keywords if keyword.arg and keyword.arg != "amount")
                yield Call(f"{path.relative_to(ROOT)}:{node.lineno}", node.func.attr, str(first.value), labels)


def test_code_uses_names_kinds_and_labels_of_the_table() -> None:
    found = list(calls())

    assert len(found) > 10
    for call in found:
        assert call.name in ROWS, call
        assert ROWS[call.name].kind in KINDS[call.method], call
        assert set(ROWS[call.name].labels) == call.labels, call


def test_every_name_written_anywhere_is_in_the_table_and_every_row_is_used() -> None:
    texts = {path: path.read_text() for path in python_files() if path.name != "metrics.py"}
    used = {name for text in texts.values() for name in re.findall(rf'"({NAME.pattern})"', text)}

    assert used - {"keylane_version"} == set(ROWS)


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_names_and_labels_follow_the_conventions(metric: object) -> None:
    row = ROWS[metric.name]  # type: ignore[attr-defined]  # parametrize gives the rows
    assert NAME.fullmatch(row.name)
    assert row.name.endswith("_total") == (row.kind == "counter")
    assert row.name.endswith("_seconds") or row.kind != "histogram"
    assert bool(row.buckets) == (row.kind == "histogram")
    assert list(row.buckets) == sorted(row.buckets)
    assert row.help.endswith(".")
    assert not {"id", "key", "tenant", "user", "path"} & set(row.labels)


def test_names_are_unique() -> None:
    assert len(ROWS) == len(TABLE)


def test_what_was_counted_is_exposed() -> None:
    metrics = PrometheusMetrics()
    metrics.inc("keylane_accepted_total", 2, kind="job", type="x")
    metrics.inc("keylane_accepted_total", kind="job", type="x")
    metrics.set("keylane_unacknowledged", 7)
    metrics.observe("keylane_enqueue_duration_seconds", 0.003, kind="job")

    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert samples["keylane_accepted_total", ("kind", "job"), ("type", "x")] == 3
    assert samples["keylane_unacknowledged",] == 7
    assert samples["keylane_enqueue_duration_seconds_bucket", ("kind", "job"), ("le", "0.005")] == 1
    assert samples["process_resident_memory_bytes",] > 0


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("keylane_nothing_total", {}),
        ("keylane_accepted_total", {"kind": "job"}),
        ("keylane_unacknowledged", {"a": "b"}),
    ],
)
def test_what_is_not_in_the_table_is_an_error(name: str, labels: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        PrometheusMetrics().inc(name, 1, **labels)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.001, 0.004, 0.005, 0.3, 1.0, 60.0, 61.0]), max_size=9), max_size=5))
def test_a_histogram_counts_many_values_at_once_as_the_librarys_own_does_one_by_one(groups) -> None:
    row = ROWS["keylane_processing_duration_seconds"]
    labels = {"group": "g", "type": "t"}
    ours, registry = PrometheusMetrics((row,)), CollectorRegistry()
    theirs = Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=registry).labels(**labels)
    for values in groups:
        ours.observe_all(row.name, values, **labels)
        for value in values:
            theirs.observe(value)
    if groups:
        assert samples(ours.text()) == pytest.approx(samples(generate_latest(registry)))


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """The samples of the table's own row, by name and bucket."""
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("keylane_") and not sample.name.endswith("_created")
    }
