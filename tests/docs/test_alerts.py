"""The alert rules speak of metrics that exist, with labels these have, and name commands that exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from streams.cli import COMMANDS
from streams.metrics import TABLE
from tests.docs.pages import DOCS, table

METRICS = {metric.name: metric for metric in TABLE}
(GROUP,) = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]
SELECTOR = re.compile(r"(\w+\()?\b(keylane_[a-z_]+)(?:\{([^}]*)\})?(?:\[(\d+[smhd])\])?")
OF_RANGES = {"increase(", "rate(", "deriv("}

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@each_rule
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "action"}
    assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
    for opening, closing in ("()", "[]", "{}"):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)


@each_rule
def test_a_rule_asks_for_metrics_and_labels_of_the_table(rule: dict[str, Any]) -> None:
    asked = SELECTOR.findall(rule["expr"])
    assert asked
    grouped = {label for names in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in names.split(", ")}
    for function, name, matchers, span in asked:
        metric = METRICS[name]
        assert {*re.findall(r"(\w+)[=!]=?~?\"", matchers), *grouped} <= set(metric.labels)
        assert bool(span) == (function in OF_RANGES)
        assert not span or metric.kind == ("gauge" if function == "deriv(" else "counter")
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert shown <= (grouped or set(METRICS[asked[0][1]].labels))


@each_rule
def test_the_commands_an_action_names_exist(rule: dict[str, Any]) -> None:
    assert set(re.findall(r"keylane (\w+)", rule["annotations"]["action"])) <= set(COMMANDS)


def test_every_rule_is_explained() -> None:
    assert [row[0] for row in table(DOCS / "seeing.md", "| alert |")] == [rule["alert"] for rule in RULES]
