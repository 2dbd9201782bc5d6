from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RegistryUnavailableError, SchemaRefusedError, UnknownSchemaError
from streams.gateway.registry_log import SCHEMAS_TOPIC, RegistryLog
from streams.gateway.registry_problems import RegistryError
from streams.gateway.registry_state import RegistryState, encode_key
from streams.gateway.registry_store import RegistryStore
from streams.ports import Message
from tests.unit.registry_memory import MemoryLog, opened


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def store(log: MemoryLog) -> RegistryStore:
    return opened(log)


def schema(name: str = "R", **types: Any) -> str:
    fields = [{"name": field, "type": kind} for field, kind in types.items()]
    return json.dumps({"type": "record", "name": name, "fields": fields})


def optional(name: str = "R", **types: Any) -> str:
    fields = [{"name": field, "type": ["null", kind], "default": None} for field, kind in types.items()]
    return json.dumps({"type": "record", "name": name, "fields": fields})


def picture(state: RegistryState) -> Any:
    versions = {
        s: [(v.version, v.id, v.text, v.deleted) for v in state.versions(s, deleted=True)] for s in state.subjects
    }
    return versions, state.texts, state.levels, state.highest_id


async def reread(log: MemoryLog) -> RegistryState:
    return await opened(log).read()


async def test_a_schema_keeps_its_id_under_every_subject_and_however_it_is_written(store: RegistryStore) -> None:
    first = await store.register("a", schema(x="int"))
    assert await store.register("a", json.dumps(json.loads(schema(x="int")), indent=2)) == first
    assert await store.register("b", json.dumps(dict(reversed(json.loads(schema(x="int")).items())))) == first
    assert await store.register("c", schema(x="long")) == first + 1
    assert await store.lookup("b", schema(x="int")) == first
    assert json.loads(await store.schema(first)) == json.loads(schema(x="int"))
    assert [version.version for version in await store.versions("a")] == [1]


async def test_normalizing_finds_what_was_written_with_short_names(store: RegistryStore) -> None:
    spelled = '{"type": "record", "name": "R", "namespace": "n", "fields": [{"name": "x", "type": {"type": "int"}}]}'
    short = '{"type": "record", "name": "n.R", "fields": [{"name": "x", "type": "int"}]}'
    first = await store.register("a", spelled, normalize=True)
    assert await store.register("a", short, normalize=True) == first
    assert (await store.find("a", spelled, normalize=True)).id == first
    with pytest.raises(UnknownSchemaError):
        await store.find("a", spelled)


async def test_what_is_not_there_is_unknown(store: RegistryStore) -> None:
    with pytest.raises(UnknownSchemaError) as subject:
        await store.lookup("a", schema())
    await store.register("a", schema())
    with pytest.raises(UnknownSchemaError) as text:
        await store.lookup("a", schema(x="int"))
    with pytest.raises(UnknownSchemaError) as number:
        await store.version("a", 2)
    with pytest.raises(UnknownSchemaError) as schema_id:
        await store.schema(7)
    assert [caught.value.code for caught in (subject, text, number, schema_id)] == [40401, 40403, 40402, 40403]


async def test_the_level_of_the_subject_beats_the_global_one(store: RegistryStore) -> None:
    await store.register("a", schema(x="int"))
    with pytest.raises(SchemaRefusedError, match="incompatible") as caught:
        await store.register("a", schema(x="int", y="int"))
    assert caught.value.code == 409
    await store.set_level(None, "NONE")
    assert await store.register("a", schema(x="int", y="int")) == 2
    await store.set_level("a", "FULL")
    with pytest.raises(SchemaRefusedError):
        await store.register("a", schema())
    await store.set_level("a", None)
    assert await store.register("a", schema()) == 3
    with pytest.raises(RegistryError) as level:
        await store.set_level("a", "SIDEWAYS")
    assert level.value.code == 42203


def record(**fields: bool) -> str:
    """A record of ints; True stands for a field with a default."""
    listed = [{"name": name, "type": "int", **({"default": 0} if default else {})} for name, default in fields.items()]
    return json.dumps({"type": "record", "name": "R", "fields": listed})


EARLIER = [record(a=False, z=False), record(a=False, z=True, b=True)]
CANDIDATES = {
    "keeps": record(a=False, z=True, b=True, c=True),
    "adds": record(a=False, z=True, b=True, c=False),
    "drops": record(z=True, b=True),
    "needs what only the latest has": record(a=False, z=True, b=False),
    "lacks what only the first needs": record(a=False, b=True),
}


@pytest.mark.parametrize(
    ("level", "refused"),
    [
        ("NONE", set()),
        ("BACKWARD", {"adds"}),
        ("BACKWARD_TRANSITIVE", {"adds", "needs what only the latest has"}),
        ("FORWARD", {"drops"}),
        ("FORWARD_TRANSITIVE", {"drops", "lacks what only the first needs"}),
        ("FULL", {"adds", "drops"}),
        ("FULL_TRANSITIVE", CANDIDATES.keys() - {"keeps"}),
    ],
)
async def test_each_level_refuses_what_it_says(store: RegistryStore, level: str, refused: set[str]) -> None:
    await store.set_level("s", "NONE")
    for text in EARLIER:
        await store.register("s", text)
    await store.set_level("s", level)
    verdicts = {name: await store.violations("s", text, None, every=True) for name, text in CANDIDATES.items()}
    assert {name for name, found in verdicts.items() if found} == refused
    for name, text in CANDIDATES.items():
        fresh = opened(MemoryLog())
        await fresh.set_level("s", "NONE")
        for earlier in EARLIER:
            await fresh.register("s", earlier)
        await fresh.set_level("s", level)
        assert await _refuses(fresh, text) == (name in refused)


async def _refuses(store: RegistryStore, text: str) -> bool:
    try:
        await store.register("s", text)
    except SchemaRefusedError:
        return True
    return False


async def test_a_verdict_on_one_version_or_on_all(store: RegistryStore) -> None:
    await store.set_level("s", "NONE")
    await store.register("s", schema(x="int"))
    await store.register("s", schema(x="string"))
    await store.set_level("s", "BACKWARD_TRANSITIVE")
    assert await store.violations("s", schema(x="long"), 1) == ()
    assert await store.violations("s", schema(x="long"), None)
    assert len(await store.violations("s", schema(x="boolean"), None, every=True)) == 2
    assert await store.violations("nobody", schema(), None, every=True) == ()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        '"nothing"',
        '{"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}',
        '{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int", "default": "one"}]}',
        '{"type": "record", "name": "not a name", "fields": []}',
        '{"type": "enum", "name": "E", "symbols": ["A", "A"]}',
    ],
)
async def test_a_schema_that_is_broken_or_recursive_is_refused(store: RegistryStore, log: MemoryLog, bad: str) -> None:
    with pytest.raises(SchemaRefusedError) as caught:
        await store.register("a", bad)
    assert caught.value.code == 42201
    assert log.records == []


async def test_deleting_hides_and_wiping_removes_a_subject(store: RegistryStore, log: MemoryLog) -> None:
    await store.set_level("a", "NONE")
    first, second = await store.register("a", schema(x="int")), await store.register("a", schema(x="string"))
    with pytest.raises(RegistryError) as too_soon:
        await store.delete_subject("a", permanent=True)
    assert await store.delete_subject("a", permanent=False) == [1, 2]
    with pytest.raises(RegistryError) as again:
        await store.delete_subject("a", permanent=False)
    with pytest.raises(RegistryError) as gone:
        await store.versions("a")
    assert [caught.value.code for caught in (too_soon, again, gone)] == [40405, 40404, 40401]
    assert await store.schema(first)
    assert await store.register("a", schema(x="int")) == first
    assert [version.version for version in await store.versions("a")] == [3]
    await store.delete_subject("a", permanent=False)
    assert await store.delete_subject("a", permanent=True) == [1, 2, 3]
    with pytest.raises(UnknownSchemaError):
        await store.schema(second)
    assert await store.level("a") is None
    assert await store.register("a", schema(x="int")) == second + 1, "an id never comes again"
    assert picture(await store.read()) == picture(await reread(log))


async def test_deleting_one_version(store: RegistryStore, log: MemoryLog) -> None:
    await store.set_level("a", "NONE")
    for kind in ("int", "string", "boolean"):
        await store.register("a", schema(x=kind))
    assert await store.delete_version("a", None, permanent=False) == 3
    with pytest.raises(RegistryError) as again:
        await store.delete_version("a", 3, permanent=False)
    with pytest.raises(RegistryError) as too_soon:
        await store.delete_version("a", 1, permanent=True)
    assert [again.value.code, too_soon.value.code] == [40406, 40407]
    assert [version.version for version in await store.versions("a")] == [1, 2]
    assert [version.version for version in await store.versions("a", deleted=True)] == [1, 2, 3]
    assert await store.delete_version("a", 3, permanent=True) == 3
    assert [version.version for version in await store.versions("a", deleted=True)] == [1, 2]
    assert picture(await store.read()) == picture(await reread(log))


async def test_registries_over_one_log_agree_whoever_is_faster(log: MemoryLog) -> None:
    stores = [opened(log) for _ in range(4)]
    for store in stores:
        await store.set_level(None, "NONE")
    kinds = ["int", "long", "string", "boolean", "double", "bytes"]
    wishes = [
        (store, f"s{turn % 2}", schema(x=kinds[(turn + k) % 6])) for k, store in enumerate(stores) for turn in range(6)
    ]
    ids = await asyncio.gather(*(store.register(subject, text) for store, subject, text in wishes))
    by_text: dict[str, set[int]] = {}
    for (_, _, text), schema_id in zip(wishes, ids, strict=True):
        by_text.setdefault(text, set()).add(schema_id)
    assert all(len(found) == 1 for found in by_text.values())
    assert len(set().union(*by_text.values())) == 6
    assert (await reread(log)).lost == set(), "every loser wiped its record"
    assert [record for record in log.records if record.value is None], "somebody lost"
    pictures = [picture(await store.read()) for store in [*stores, opened(log)]]
    assert all(each == pictures[0] for each in pictures)
    for store, subject, text in wishes:
        assert await store.lookup(subject, text) in by_text[text]


async def test_of_two_schemas_that_exclude_each_other_only_one_gets_in(log: MemoryLog) -> None:
    here, there = opened(log), opened(log)
    await here.register("s", optional(x="int"))

    async def watch() -> None:
        for _ in range(200):
            await here.versions("s")

    for turn in range(5):
        wishes = [
            here.register("s", optional(**{f"y{turn}": "int"})),
            there.register("s", optional(**{f"y{turn}": "string"})),
        ]
        *answers, _ = await asyncio.gather(*wishes, watch(), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["RefusedError", "int"]


async def test_a_lost_registration_left_behind_never_comes_to_count(log: MemoryLog) -> None:
    """Two writers propose the same place; the loser dies before it can wipe its record."""
    state = RegistryState()
    winner, loser = state.propose("a", schema(x="int"), "w"), state.propose("a", schema(x="string"), "l")
    for each in (winner, loser):
        value = {"subject": "a", "version": 1, "id": 1, "schema": each.text, "deleted": False}
        await log.publish(Message(SCHEMAS_TOPIC, each.key, json.dumps(value).encode()))
    assert (await reread(log)).texts == {1: schema(x="int")}
    store = opened(log)
    await store.delete_subject("a", permanent=False)
    log.compact(len(log.records))
    assert (await reread(log)).texts == {1: schema(x="int")}
    await store.delete_subject("a", permanent=True)
    log.compact(log.records[-1].offset + 1)
    assert (await reread(log)).texts == {}
    assert await opened(log).register("b", schema()) == 2


@settings(max_examples=40)
@given(st.data())
async def test_the_state_is_the_same_after_compaction_anywhere(data: st.DataObject) -> None:
    log = MemoryLog()
    stores = [opened(log), opened(log)]
    await stores[0].set_level(None, "NONE")
    step = st.tuples(
        st.integers(0, 1), st.sampled_from(["register", "race", "hide", "hide one", "wipe", "level"]), st.integers(0, 3)
    )
    for who, what, number in data.draw(st.lists(step, max_size=12)):
        await _try(stores, who, what, f"s{number % 2}", optional(**{f"f{number}": "int"}))
        if data.draw(st.booleans()):
            before = picture(await reread(log))
            for store in stores:
                await store.read()  # tombstones stay for a day: who is awake has seen them
            log.compact(data.draw(st.integers(0, log.end)))
            assert picture(await reread(log)) == before
    assert picture(await stores[0].read()) == picture(await stores[1].read()) == picture(await reread(log))


async def _try(stores: list[RegistryStore], who: int, what: str, subject: str, text: str) -> None:
    store = stores[who]
    try:
        match what:
            case "register":
                await store.register(subject, text)
            case "race":
                await asyncio.gather(stores[0].register(subject, text), stores[1].register(subject, optional(g="int")))
            case "hide":
                await store.delete_subject(subject, permanent=False)
            case "hide one":
                await store.delete_version(subject, None, permanent=False)
            case "wipe":
                await store.delete_subject(subject, permanent=True)
            case _:
                await store.set_level(subject, "NONE")
    except UnknownSchemaError:
        return


async def test_a_registry_that_slept_past_the_tombstones_reads_the_log_anew(log: MemoryLog) -> None:
    now = [0.0]
    sleeper, other = RegistryStore(RegistryLog(log, log, clock=lambda: now[0])), opened(log)
    await sleeper.register("a", schema())
    await other.delete_subject("a", permanent=False)
    await other.delete_subject("a", permanent=True)
    log.compact(log.records[-1].offset)
    now[0] = 100_000.0
    assert picture(await sleeper.read()) == picture(await other.read()) == ({}, {}, {}, 1)


async def test_what_somebody_else_wrote_is_read_or_passed_over(log: MemoryLog) -> None:
    """Records as Confluent's registry writes them, and some that nobody can read."""
    written = [
        ({"keytype": "NOOP", "magic": 0}, None),
        ({"keytype": "MODE", "subject": None, "magic": 0}, {"mode": "READONLY"}),
        ({"keytype": "CONFIG", "subject": None, "magic": 0}, {"compatibilityLevel": "FORWARD"}),
        (
            {"keytype": "SCHEMA", "subject": "a", "version": 1, "magic": 1},
            {"subject": "a", "version": 1, "id": 5, "schema": schema(), "deleted": False},
        ),
        ({"keytype": "SCHEMA", "subject": "a", "version": 2, "magic": 1}, {"subject": "a"}),
    ]
    for key, value in written:
        await log.publish(Message(SCHEMAS_TOPIC, json.dumps(key).encode(), value and json.dumps(value).encode()))
    for key in (b"\xff", b"[]", b"7", None):
        await log.publish(Message(SCHEMAS_TOPIC, key, b"{}"))
    store = opened(log)
    assert await store.lookup("a", schema()) == 5
    assert await store.level(None) == "FORWARD"
    assert await store.register("b", schema(x="int")) == 6


async def test_a_log_that_is_away_missing_or_split_is_no_answer_about_the_schema(
    store: RegistryStore, log: MemoryLog
) -> None:
    known = await store.register("a", schema())
    log.away = True
    for asked in (
        store.register("a", schema(x="int")),
        store.versions("a"),
        store.schema(99),
        store.set_level(None, "NONE"),
    ):
        with pytest.raises(RegistryUnavailableError, match="no broker"):
            await asked
    assert await store.schema(known)
    log.away = False
    for partitions, words in ((0, "does not exist"), (2, "2 partitions")):
        log.partitions = partitions
        with pytest.raises(RegistryUnavailableError, match=words):
            await store.versions("a")


async def test_a_schema_too_large_for_the_topic_is_refused(store: RegistryStore, log: MemoryLog) -> None:
    log.largest = 100
    with pytest.raises(SchemaRefusedError, match="too large"):
        await store.register("a", schema(x="int"))


async def test_who_asks_at_the_same_time_shares_the_look_at_the_log(store: RegistryStore, log: MemoryLog) -> None:
    await store.register("a", schema())
    log.looks = 0
    await asyncio.gather(*(store.versions("a") for _ in range(50)))
    assert log.looks <= 2


def test_keys_are_in_confluents_form() -> None:
    key = json.loads(encode_key("SCHEMA", subject="s", version=1, attempt="x"))
    assert key == {"keytype": "SCHEMA", "subject": "s", "version": 1, "attempt": "x", "magic": 1}
    assert json.loads(encode_key("CONFIG", subject=None)) == {"keytype": "CONFIG", "subject": None, "magic": 0}
