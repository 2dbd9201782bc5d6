from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

import consumers
from consumers.discovery import BrokenConsumerError, gather
from streams.groups import groups
from streams.job import Queue
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streams.job import Catalogue

JOB = """
from schemas.notification_signin.model import CONTRACT
from streams.job import Job
async def handle(payload, ctx): ...
JOB = Job(contract=CONTRACT, queue="emails", key=lambda payload: payload.user_id, handler=handle)
"""

SUBSCRIPTION = """
from schemas.reservation_held.model import CONTRACT
from streams.job import Periodic, Subscription
async def handle(payload, ctx): ...
async def run(services): ...
SUBSCRIPTION = Subscription(name="{name}", contracts=(CONTRACT,), handler=handle)
PERIODICS = (Periodic(name="{name}-a", every=1, run=run), Periodic(name="{name}-b", every=1, run=run))
"""


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Catalogue]]:
    def discover(**folders: str) -> Catalogue:
        for name, source in {".": "", **folders}.items():
            folder = tmp_path / "deployment" / name
            folder.mkdir(exist_ok=True, parents=True)
            (folder / "__init__.py").write_text(source)
            (folder / "samples.json").write_text('[{"type": "a sample"}]')
        importlib.invalidate_caches()
        return gather("deployment", (Queue(name="emails"),), {})

    monkeypatch.syspath_prepend(str(tmp_path))
    yield discover
    for name in [name for name in sys.modules if name.partition(".")[0] == "deployment"]:
        del sys.modules[name]


def test_every_folder_of_this_deployment_is_found() -> None:
    found = consumers.discover(Settings(_env_file=None, signin_mails_per_hour=7))
    assert [job.type for job in found.jobs] == ["notification.signin"]
    assert {one.name for one in found.subscriptions} == {
        "availability-cache",
        "hold-sweeper",
        "reservation-notifications",
    }
    assert [(one.name, one.every) for one in found.periodics] == [("hold-sweeper", 30.0)]
    assert [(route.method, route.path) for route in found.routes] == [
        ("POST", "/api/jobs/signin-notification"),
        ("GET", "/api/jobs/{id}"),
    ]
    assert found.options == {"signin_mails_per_hour": 7}


def test_sign_in_waits_2_4_8_16_seconds_and_is_tried_5_times() -> None:
    found = consumers.discover(Settings(_env_file=None))
    assert found.queues[0].tiers == (2, 4, 8, 16)
    assert found.jobs[0].retry.attempts == 5
    assert found.jobs[0].retry.in_place == ()


def test_a_new_folder_is_a_new_consumer(deployment: Callable[..., Catalogue]) -> None:
    found = deployment(welcome=JOB, watcher=SUBSCRIPTION.format(name="watcher"))
    assert [job.queue for job in found.jobs] == ["emails"]
    assert [one.name for one in found.subscriptions] == ["watcher"]
    assert [one.name for one in found.periodics] == ["watcher-a", "watcher-b"]
    assert found.examples == ({"type": "a sample"}, {"type": "a sample"})


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import no_such_thing", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def broken(:", "cannot be loaded: SyntaxError"),
        ("", "declares no JOB, SUBSCRIPTION, PERIODIC or ROUTES"),
        ("JOB = 'sign-in'", "JOB(S) must be of Job, got str"),
        ("ROUTES = ('GET /',)", "ROUTE(S) must be of RouteSpec, got str"),
    ],
)
def test_a_broken_folder_is_named(deployment: Callable[..., Catalogue], source: str, complaint: str) -> None:
    with pytest.raises(BrokenConsumerError) as error:
        deployment(fine=JOB, sick=source)
    assert str(error.value).startswith("deployment/sick: ")
    assert complaint in str(error.value)


def test_a_consumer_without_samples_is_named(deployment: Callable[..., Catalogue], tmp_path: Path) -> None:
    deployment(fine=JOB)
    (tmp_path / "deployment/fine/samples.json").unlink()
    with pytest.raises(BrokenConsumerError, match=r"deployment/fine: cannot be loaded: FileNotFoundError: .*samples"):
        gather("deployment", (), {})


def test_the_parts_of_this_deployment_fit_together() -> None:
    found = consumers.discover(Settings(_env_file=None))
    assert [group.name for group in groups(found)] == [
        "emails",
        "availability-cache",
        "hold-sweeper",
        "reservation-notifications",
    ]
