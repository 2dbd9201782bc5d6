"""The options of a job: checked, and refused by name where they are not carried out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway_doubles import JOB, Bench

CALLBACK = {"url": "https://example.com/hook"}


async def refusals(options: dict[str, Any]) -> dict[str, str]:
    bench = Bench()
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs", json=JOB | options)
        found = await response.json(content_type=None)
    assert response.status == 400, found
    assert bench.log.messages == []
    return {error["pointer"]: error["detail"] for error in found["errors"]}


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "payments"},
        {"priority": 9},
        {"run_at": "2030-01-01T00:00:00Z"},
        {"run_at": "2030-01-01T00:00:00", "time_zone": "Asia/Ulaanbaatar"},
        {"delay": 1.5},
        {"delay": 10},
        {"attempts": 3},
        {"expires_at": "2030-01-01T00:00:00+08:00"},
        {"dedupe": {"key": "k", "window": 60}},
        {"callback": CALLBACK},
        {"callback": CALLBACK | {"on": ["dead"]}},
    ],
)
async def test_an_option_that_is_sound_but_not_carried_out_is_refused_by_its_name(options: dict[str, Any]) -> None:
    found = await refusals(options)

    assert set(found) == {f"/{name}" for name in options}
    assert all("not carried out yet" in detail for detail in found.values())


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"queue": "Em ails"}, "/queue"),
        ({"priority": 10}, "/priority"),
        ({"priority": "high"}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": 1_900_000_000}, "/run_at"),
        ({"run_at": "2030-13-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "2030-01-01T00:00:00"}, "/run_at"),
        ({"run_at": "2030-01-01T00:00:00Z", "delay": 5}, "/delay"),
        ({"run_at": "2030-01-01T00:00:00Z", "time_zone": "Asia/Ulaanbaatar"}, "/time_zone"),
        ({"time_zone": "Asia/Ulaanbaatar"}, "/time_zone"),
        ({"time_zone": "Mars/Olympus", "run_at": "2030-01-01T00:00:00"}, "/time_zone"),
        ({"delay": 0}, "/delay"),
        ({"delay": 1e9}, "/delay"),
        ({"attempts": 0}, "/attempts"),
        ({"expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2030-01-01T00:00:00Z", "run_at": "2031-01-01T00:00:00Z"}, "/expires_at"),
        ({"dedupe": {}}, "/dedupe/key"),
        ({"dedupe": {"key": "k", "window": -1}}, "/dedupe/window"),
        ({"callback": {"url": "ftp://x"}}, "/callback/url"),
        ({"callback": CALLBACK | {"on": []}}, "/callback/on"),
        ({"callback": CALLBACK | {"method": "GET"}}, "/callback/method"),
        ({"prioritty": 1}, "/prioritty"),
    ],
)
async def test_an_option_that_cannot_be_is_refused_at_its_place(options: dict[str, Any], pointer: str) -> None:
    found = await refusals(options)

    assert list(found) == [pointer]
    assert "not carried out" not in found[pointer]


async def test_the_types_own_queue_may_be_named_and_null_is_nothing() -> None:
    async with Bench().client() as client:
        for options in ({"queue": "emails"}, {"delay": None, "callback": None}):
            assert (await client.post("/api/v1/jobs", json=JOB | options)).status == 202
