from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import consumers
from consumers.samples import TENANTS, sample_load
from schemas.catalogue import contracts
from streams.event import record_key
from streams.settings import Settings

if TYPE_CHECKING:
    from consumers.samples import Sample

ROOT = Path(consumers.__file__).parent
CONTRACTS = {contract.name: contract for contract in contracts()}
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def samples(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / folder / "samples.json").read_text())
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_samples_of_a_folder_fit_their_contracts(folder: str) -> None:
    for sample in samples(folder):
        assert sample.keys() == {"type", "tenant", "entity", "data"}
        assert record_key(sample["tenant"], sample["entity"])
        CONTRACTS[sample["type"]].model.model_validate_json(json.dumps(sample["data"]))


def test_there_is_a_sample_of_everything_a_consumer_takes() -> None:
    found = consumers.discover(Settings(_env_file=None))
    taken = {
        contract.name
        for contract in [job.contract for job in found.jobs] + [c for s in found.subscriptions for c in s.contracts]
    }
    assert taken == {sample["type"] for folder in FOLDERS for sample in samples(folder)}


def plain(load: list[Sample]) -> list[tuple[str, str, str, str]]:
    return [(one.contract.name, one.payload.model_dump_json(), one.tenant, one.entity) for one in load]


def test_a_seed_always_gives_the_same_load_and_another_seed_another() -> None:
    assert plain(list(sample_load(7, 300))) == plain(list(sample_load(7, 300)))
    assert plain(list(sample_load(7, 300))) != plain(list(sample_load(8, 300)))


def test_a_longer_load_begins_as_the_shorter_one() -> None:
    assert plain(list(islice(sample_load(7, 500), 100))) == plain(list(sample_load(7, 100)))


def test_a_load_has_as_many_records_as_asked_for_from_three_tenants() -> None:
    load = list(sample_load(1, 3000))
    assert len(load) == 3000
    assert {one.tenant for one in load} == set(TENANTS)
    kinds = Counter(one.contract.name for one in load)
    assert kinds.keys() == {
        "notification.signin",
        "reservation.held",
        "reservation.confirmed",
        "reservation.cancelled",
    }
    assert min(kinds.values()) > 150


def test_each_reservation_is_held_and_then_ended_once_under_one_key() -> None:
    lives = defaultdict(list)
    for one in sample_load(1, 3000):
        if one.contract.domain == "reservation":
            lives[one.tenant, one.entity].append(one.contract.name)
    ways = {tuple(life) for life in lives.values()}
    assert ways == {
        ("reservation.held",),
        ("reservation.held", "reservation.confirmed"),
        ("reservation.held", "reservation.cancelled"),
    }
    assert sum(len(life) == 1 for life in lives.values()) <= 50


def test_no_user_reaches_the_hourly_limit() -> None:
    users = Counter((one.tenant, one.entity) for one in sample_load(1, 5000) if one.contract.domain == "notification")
    assert len(users) > 300
    assert max(users.values()) < 10
