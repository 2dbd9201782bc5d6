"""Disagreements planted between models and schemas must be found, each with one clear sentence."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, create_model
from typer.testing import CliRunner

from schemas import catalogue
from schemas.check import check
from schemas.contract import Contract, load
from schemas.fields import Instant, Int, Long
from streams.cli import schemas as command

if TYPE_CHECKING:
    from pathlib import Path

TIME = {"type": "long", "logicalType": "timestamp-millis"}
ENUM = {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}
POINT = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}


class Point(BaseModel):
    x: Int


class Blurred(BaseModel):
    x: str


def schema_of(*fields: tuple[Any, ...], name: str = "Thing", **more: Any) -> str:
    listed = [{"name": n, "type": kind, **(rest[0] if rest else {})} for n, kind, *rest in fields]
    return json.dumps({"type": "record", "name": name, "namespace": "keylane.some", "fields": listed, **more})


def contract_of(model: type[BaseModel], *schemas: str, name: str = "some.thing") -> Contract:
    return Contract(name=name, kind="event", model=model, schemas=schemas)


def one_field(annotation: Any, kind: Any, default: Any = ..., avro_default: Any = ...) -> Contract:
    field: Any = (annotation, default)
    rest = {} if avro_default is ... else {"default": avro_default}
    return contract_of(create_model("Thing", f=field), schema_of(("f", kind, rest)))


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (str, "string"),
        (Literal["a", "b"], "string"),
        (Int, "int"),
        (Int, "long"),
        (Long, "long"),
        (float, "double"),
        (bool, "boolean"),
        (bytes, "bytes"),
        (Instant, TIME),
        (date, {"type": "int", "logicalType": "date"}),
        (UUID, {"type": "string", "logicalType": "uuid"}),
        (Literal["RED", "BLUE"], ENUM),
        (Point, POINT),
        (list[Point], {"type": "array", "items": POINT}),
        (dict[str, Long], {"type": "map", "values": "long"}),
        (str | None, ["null", "string"]),
        (Instant | None, ["null", TIME]),
        (Point | None, ["null", POINT]),
        (Long | str, ["long", "string"]),
        (list[str | None], {"type": "array", "items": ["null", "string"]}),
    ],
)
def test_what_agrees_is_left_alone(annotation: Any, kind: Any) -> None:
    assert check(one_field(annotation, kind)) == ()


@pytest.mark.parametrize(
    ("annotation", "kind", "words"),
    [
        (str, "bytes", "'f' is Avro bytes in the schema but string in the model"),
        (str, TIME, r"'f' is Avro long \(timestamp-millis\) in the schema but string"),
        (datetime, "string", "'f' is Avro string in the schema but date-time"),
        (Instant, "long", "'f' is Avro long in the schema but date-time"),
        (bool, "int", "'f' is Avro int in the schema but boolean"),
        (float, "long", "'f' is Avro long in the schema but number"),
        (Long, "double", "'f' is Avro double in the schema but integer"),
        (Long, "int", "'f' is Avro int in the schema but the model sets no bounds within it"),
        (int, "long", "the model sets no bounds"),
        (Annotated[int, Field(ge=0)], "long", "the model sets no bounds"),
        (Annotated[int, Field(le=0)], "long", "the model sets no bounds"),
        (Decimal, "string", "'f' may be string in the model|'f' may be number in the model"),
        (str | None, "string", "'f' may be null in the model but not in the schema"),
        (str, ["null", "string"], "'f' may be Avro null in the schema but not in the model"),
        (Long | None, ["null", "string"], "'f' may be integer in the model but not in the schema"),
        (Literal["RED"], ENUM, "'f' has other symbols"),
        (Literal["RED", "GREEN"], ENUM, "'f' has other symbols"),
        (str, ENUM, "'f' has other symbols"),
        (Blurred, POINT, r"'f\.x' is Avro int in the schema but string"),
        (list[str], {"type": "array", "items": "bytes"}, r"'f\[\]' is Avro bytes"),
        (dict[str, str], {"type": "map", "values": "bytes"}, r"'f\{\}' is Avro bytes"),
        (dict[str, Long], {"type": "array", "items": "long"}, "'f' is Avro array in the schema but object"),
        (Point, "string", "'f' is Avro string in the schema but object"),
        (Any, "string", "'f' is Avro string in the schema but anything"),
    ],
)
def test_types_that_differ_are_found(annotation: Any, kind: Any, words: str) -> None:
    assert re.search(words, "\n".join(check(one_field(annotation, kind))))


def test_fields_missing_on_one_side_are_found() -> None:
    model = create_model("Thing", a=(str, ...), c=(str, ...))
    assert check(contract_of(model, schema_of(("a", "string"), ("b", "string")))) == (
        "some.thing: field 'b' is in the schema but not in the model.",
        "some.thing: field 'c' is in the model but not in the schema.",
    )


@pytest.mark.parametrize(
    ("default", "avro_default", "words"),
    [
        (..., "x", "has the default 'x' in the schema but none in the model"),
        ("x", ..., "has a default in the model but none in the schema"),
        ("x", "y", "has the default 'y' in the schema but 'x' in the model"),
        (Field(default_factory=str), "", "has the default '' in the schema but a computed one in the model"),
    ],
)
def test_defaults_that_differ_are_found(default: Any, avro_default: Any, words: str) -> None:
    (finding,) = check(one_field(str, "string", default, avro_default))
    assert words in finding


def test_an_optional_field_needs_its_null_default_on_both_sides() -> None:
    assert check(one_field(str | None, ["null", "string"], None, None)) == ()
    assert len(check(one_field(str | None, ["null", "string"], None))) == 1


A, AB = create_model("Thing", a=(str, ...)), create_model("Thing", a=(str, ...), b=(str, "x"))


def test_versions_that_read_each_other_are_sound() -> None:
    assert (
        check(
            contract_of(AB, schema_of(("a", "string")), schema_of(("a", "string"), ("b", "string", {"default": "x"})))
        )
        == ()
    )


@pytest.mark.parametrize(
    ("model", "schemas", "words"),
    [
        (
            create_model("T", a=(str, ...), b=(str, ...)),
            [schema_of(("a", "string")), schema_of(("a", "string"), ("b", "string"))],
            "v2 cannot read what v1 wrote",
        ),
        (A, [schema_of(("a", "string"), ("b", "string")), schema_of(("a", "string"))], "v1 cannot read what v2 wrote"),
        (
            create_model("T", a=(Long, ...)),
            [schema_of(("a", "int")), schema_of(("a", "long"))],
            "v1 cannot read what v2 wrote",
        ),
        (
            create_model("T", a=(Literal["RED", "BLUE"], ...)),
            [schema_of(("a", {**ENUM, "symbols": ["RED"]})), schema_of(("a", ENUM))],
            "v1 cannot read what v2 wrote: missing enum symbols",
        ),
        (
            A,
            [
                schema_of(("a", "string"), ("b", "string")),
                schema_of(("a", "string"), ("b", "string", {"default": "x"})),
                schema_of(("a", "string")),
            ],
            "v1 cannot read what v3 wrote",
        ),
        (A, [schema_of(("a", "string"), name="Other"), schema_of(("a", "string"))], "v1 is called keylane.some.Other"),
    ],
    ids=["field without default", "required field gone", "wider number", "new symbol", "not transitive", "renamed"],
)
def test_versions_that_cannot_read_each_other_are_found(model: type[BaseModel], schemas: list[str], words: str) -> None:
    assert any(words in finding for finding in check(contract_of(model, *schemas)))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{", "not JSON"),
        ('{"type": "record", "name": "Thing", "fields": [{"name": "a", "type": "text"}]}', "not valid Avro"),
        (schema_of(("a", ["null", "keylane.some.Thing"])), "recursive"),
        (schema_of(("a", "int", {"default": "x"})), "not valid Avro"),
    ],
)
def test_schemas_that_are_no_schemas_are_found(schema: str, words: str) -> None:
    (finding,) = check(contract_of(A, schema))
    assert words in finding


def test_the_names_of_contract_and_schema_belong_together() -> None:
    contract = contract_of(A, schema_of(("a", "string"), name="HoldExpired"), name="some.hold_expired")
    assert check(contract) == ()
    (finding,) = check(contract_of(A, schema_of(("a", "string"), name="Hold_expired"), name="some.hold_expired"))
    assert "v1 is called keylane.some.Hold_expired instead of keylane.some.HoldExpired" in finding


def test_the_command_ends_with_0_when_all_is_sound() -> None:
    result = CliRunner().invoke(command.app, ["check"])
    assert result.exit_code == 0
    assert f"{len(catalogue.contracts())} contracts are sound" in result.output


def test_the_command_ends_with_1_and_a_sentence_per_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = contract_of(AB, schema_of(("a", "bytes")))
    monkeypatch.setattr(command, "contracts", lambda: (broken,))
    result = CliRunner().invoke(command.app, ["check"])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "some.thing: field 'b' is in the model but not in the schema.",
        "some.thing: field 'a' is Avro bytes in the schema but string in the model.",
    ]


def test_the_register_command_says_in_one_sentence_that_nobody_answers() -> None:
    result = CliRunner().invoke(command.app, ["register", "--url", "http://127.0.0.1:1/registry"])
    assert result.exit_code == 1
    assert result.output.startswith("http://127.0.0.1:1/registry does not answer")
    assert "Traceback" not in result.output


def test_versions_are_numbered_without_a_gap(tmp_path: Path) -> None:
    model = str(tmp_path / "model.py")
    with pytest.raises(FileNotFoundError, match=r"needs v1\.avsc"):
        load(model, name="some.thing", kind="event", model=A)
    for name in ("v1.avsc", "v3.avsc"):
        (tmp_path / name).write_text(schema_of(("a", "string")))
    with pytest.raises(FileNotFoundError, match="without a gap"):
        load(model, name="some.thing", kind="event", model=A)
    (tmp_path / "v2.avsc").write_text(schema_of(("a", "string")))
    assert len(load(model, name="some.thing", kind="event", model=A).schemas) == 3
