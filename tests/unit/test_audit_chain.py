from __future__ import annotations

import json
from dataclasses import replace

import pytest

from streams.adapters.vault import Vault, masters, new_master
from streams.audit import Act, Chain, Entry, following

ACT = Act(who="key:a", what="keys.create", target="api_keys/b", tenant="steppe", source="192.0.2.7", after={"n": 1})
VAULT = Vault(masters(new_master("first")))


def trail(count: int, vault: Vault = VAULT, last: Entry | None = None) -> list[Entry]:
    found = [] if last is None else [last]
    for number in range(count):
        found.append(following(found[-1] if found else None, replace(ACT, request_id=f"r-{number}"), vault, number))
    return found


def fault(entries: list[Entry], vault: Vault = VAULT) -> str | None:
    chain = Chain(vault)
    return next((found for found in map(chain.fault, entries) if found), None)


def test_a_trail_nobody_has_touched_is_whole() -> None:
    assert fault(trail(20)) is None
    said = trail(3)[2].members
    assert (said["sequence"], said["at"], said["request_id"], said["after"]) == (3, 2, "r-2", {"n": 1})


def changed(entry: Entry, **members: object) -> Entry:
    record = json.dumps(entry.members | members, sort_keys=True, separators=(",", ":"))
    return entry._replace(record=record)


def test_the_first_record_that_was_changed_is_named() -> None:
    for place in range(5):
        entries = trail(5)
        entries[place] = changed(entries[place], who="somebody else")
        assert fault(entries) == f"record {place + 1} was changed, or the record before it was"


def test_a_record_that_was_taken_out_put_in_or_moved_is_named() -> None:
    whole = trail(6)
    assert fault(whole[:2] + whole[3:]) == "record 3 is missing: record 4 stands in its place"
    assert fault(whole[1:]) == "record 1 is missing: record 2 stands in its place"
    moved = [whole[0], changed(whole[2], sequence=2)._replace(sequence=2), *whole[2:]]
    assert fault(moved) == "record 2 was changed, or the record before it was"
    assert fault([*whole, whole[5]]) == "record 7 is missing: record 6 stands in its place"


def test_whoever_has_no_master_key_cannot_write_the_rest_of_the_trail_anew() -> None:
    mine = Vault(masters(new_master("first")))
    forged = trail(3, mine, last=trail(2)[1])
    assert fault([*trail(1), *forged]) == "record 3 was changed, or the record before it was"
    assert fault(trail(3, mine)) == "record 1 was changed, or the record before it was"


def test_a_trail_goes_on_over_a_rotation_and_needs_the_old_key_to_be_checked() -> None:
    old, new = new_master("old"), new_master("new")
    entries = trail(2, Vault(masters(old)))
    entries += trail(2, Vault(masters(f"{new},{old}")), last=entries[-1])[1:]
    assert fault(entries, Vault(masters(f"{new},{old}"))) is None
    assert "record 1 cannot be checked: KEYLANE_SECRET_KEYS has no key 'old'" in str(
        fault(entries, Vault(masters(new)))
    )


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"sequence": 1}', "no JSON", '{"sequence":1,"secret":null}'])
def test_what_is_no_record_breaks_the_trail_and_nothing_else(record: str) -> None:
    assert fault([Entry(1, record, bytes(32))])
