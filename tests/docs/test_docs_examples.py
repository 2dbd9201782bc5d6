"""The documents' examples, run as they stand: a gateway and a worker of the example deployment on real servers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from streams.adapters.vault import new_master
from streams.dev import ports
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streams.settings import Settings

KEYLANE = [sys.executable, "-c", "from streams.cli import main; main()"]
SHOWN = {
    "KEY_PREFIX": r"prefix: +(\w+)",
    "API_KEY": r"key: +(kl_\w+)",
    "SIGNING_SECRET": r"signing secret: +(kls_\w+)",
    "TOKEN": r"^(eyJ[\w.-]+)\s*$",
}
"""What the examples refer to by name, and where it is shown."""
RUNNING = {page for page in PAGES if any(block.kind == "run" for block in blocks(page))}
TWICE = ("/api/v1/health", "/api/v1/metrics/")  # also served without the prefix


class Deployment:
    """A folder with the packages and files of the documents, and the commands a reader types in it."""

    def __init__(self, settings: Settings, folder: Path, port: int) -> None:
        assert settings.database_url
        assert settings.redis_url
        self.folder = folder
        self.gateway = f"127.0.0.1:{port}"
        self.redis = Redis.from_url(settings.redis_url, decode_responses=True)
        self._kafka = str(settings.kafka_bootstrap_servers)
        self._environment = {
            **os.environ,
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": self._kafka,
            "KEYLANE_REDIS_URL": settings.redis_url,
            "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
            "KEYLANE_DATA_DIR": str(folder / "data"),
            "KEYLANE_GATEWAY_PORT": str(port),
            # Pages whose examples have no credentials play beside the one that is about them.
            "KEYLANE_GATEWAY_AUTH": "none,key,hmac,jwt",
            "KEYLANE_GATEWAY_AUTH_ROUTES": '{"/registry": "none"}',
            "KEYLANE_SECRET_KEYS": new_master("docs"),
            "KEYLANE_JWT_ISSUERS": next(block.text for block in blocks(DOCS / "access.md") if block.language == "json"),
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "COLUMNS": "200",
            # A dozen commands one after the other: compile the libraries once, wherever their own caches are.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        }

    def build(self) -> None:
        """Lay the files of all documents over the packages."""
        for package in ("schemas", "consumers"):
            shutil.copytree(ROOT / package, self.folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for block in (block for page in PAGES for block in blocks(page) if block.kind == "file"):
            path = self.folder / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)

    def play(self, page: Path) -> str:
        """Run the page's commands in order; all they said."""
        return "".join(
            self._typed(command, expected=int(block.value or 0))
            for block in blocks(page)
            if block.kind == "run"
            for command in block.commands
        )

    def run(self, *words: str, expected: int = 0) -> str:
        """A program in the folder; what it said."""
        ended = subprocess.run(
            words, cwd=self.folder, env=self._environment, check=False, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == expected, (words, ended.stdout, ended.stderr)
        return ended.stdout + ended.stderr

    def letters(self, query: str) -> list[dict[str, Any]]:
        """Dead letters, newest first."""
        found: list[dict[str, Any]] = self.get(f"/api/admin/dlq?{query}")["entries"]
        return found

    def get(self, path: str) -> Any:
        """A JSON answer of the gateway, None where it is not 200."""
        try:
            with urllib.request.urlopen(f"http://{self.gateway}{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """A process of the deployment, until the end of the block."""
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen([*KEYLANE, name], cwd=self.folder, env=self._environment, stderr=log)
        try:
            yield
        finally:
            child.terminate()
            assert child.wait(30) == 0

    def _typed(self, command: str, expected: int) -> str:
        for name in SHOWN:
            command = command.replace(f"${name}", self._environment.get(name, ""))
        program, *words = shlex.split(
            command.replace("127.0.0.1:9092", self._kafka).replace("127.0.0.1:8080", self.gateway)
        )
        if program == "curl":
            return self._curl(words, expected)
        if program == "redis-cli":
            return str(self.redis.execute_command(*words))
        programs = {"keylane": KEYLANE, "python": [sys.executable], "node": ["node"]}
        said = self.run(*programs[program], *words, expected=expected)
        # What was shown stands in the reader's environment from now on.
        found = {name: re.search(pattern, said) for name, pattern in SHOWN.items()}
        self._environment |= {name: shown[1] for name, shown in found.items() if shown}
        return said

    def _curl(self, words: list[str], expected: int) -> str:
        (url,) = (word for word in words if word.startswith("http"))
        given = dict(pairwise(words))
        headers = dict(word.split(": ", 1) for flag, word in pairwise(words) if flag == "-H")
        body = given["-d"].encode() if "-d" in given else None
        request = urllib.request.Request(url, body, headers, method=given.get("-X"))  # noqa: S310 - ours
        most = float(given.get("--max-time", 10))
        try:
            with urllib.request.urlopen(request, timeout=most) as answer:  # noqa: S310 - ours
                status, text = answer.status, _read(answer, most if "--max-time" in given else None).decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        assert status == expected, (url, text)
        return str(text)


def _read(answer: Any, seconds: float | None) -> bytes:
    """All of it, or what comes within so many seconds."""
    if seconds is None:
        return bytes(answer.read())
    found, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found += answer.read1()
        except TimeoutError:
            break
    return found


def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Ask until it holds, or fail."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def deployment(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(settings, tmp_path_factory.mktemp("deployment"), ports.any_free())
    made.build()
    made.run(*KEYLANE, "topics", "apply")
    with ExitStack() as stack:
        stack.enter_context(made.running("gateway"))
        until(lambda: made.get("/health/ready"))
        stack.enter_context(made.running("worker"))
        yield made
        made.redis.close()


def test_the_example_job_is_sound_has_its_topics_and_pays_once(deployment: Deployment) -> None:
    said = deployment.play(DOCS / "jobs.md")
    assert "7 contracts are sound" in said
    assert "all 35 topics stand as declared" in deployment.play(DOCS / "operations.md")
    # The twin of the first job was published before the second one, whose account it shares.
    paid = ["payments/acme/pay-7", "payments/acme/pay-8"]
    until(lambda: deployment.redis.lrange("bank", 0, -1)[-1:] == paid[-1:])
    assert deployment.redis.lrange("bank", 0, -1) == paid


def test_the_job_of_the_readme_is_a_declaration(deployment: Deployment) -> None:
    (job,) = (block for block in blocks(ROOT / "README.md") if "JOB = Job(" in block.text)
    assert len([line for line in job.text.splitlines() if line.strip()]) <= 15
    (deployment.folder / "readme_job.py").write_text(job.text + "\nprint(JOB.type, JOB.queue, JOB.retry.attempts)\n")
    assert deployment.run(sys.executable, "readme_job.py") == "invoice.pay payments 5\n"


def test_a_foreign_client_publishes_and_a_file_is_published(deployment: Deployment) -> None:
    said = deployment.play(DOCS / "publishing.md")
    assert "published 4 records" in said
    assert "line 1: /tenant: Field required" in said
    until(lambda: deployment.redis.hget("keylane:availability:acme/court-7", "confirmed") == "3")
    until(lambda: len(deployment.letters("tenant=acme&topic=events.reservation")) == 3)
    dead = deployment.letters("tenant=acme&topic=events.reservation")
    assert {(letter["key"], letter["classification"]) for letter in dead} == {("acme/r-3", "undecodable")}


def test_where_keys_and_groups_stand_is_seen_and_the_set_up_is_sound(deployment: Deployment) -> None:
    until(lambda: len(deployment.letters("group=payments")) == 3)
    said = deployment.play(DOCS / "seeing.md")
    assert "held: offset 0 in front; 2 behind it" in said
    assert "no worker was asked" in said
    assert "all 35 stand as declared, families alike" in said


def test_a_held_key_is_looked_at_and_replayed(deployment: Deployment) -> None:
    until(lambda: len(deployment.letters("group=payments")) == 3)
    said = deployment.play(DOCS / "dead-letters.md")
    assert "this was a dry run: add --yes to replay 1 dead letters" in said
    assert "has finished: 1 done" in said

    def paid() -> list[Any]:
        jobs = [deployment.get(f"/api/v1/jobs/pay-{number}") for number in (1, 2, 4)]
        return [job["finished_at"] for job in jobs if job and job["status"] == "completed"]

    until(lambda: len(paid()) == 3)
    assert paid() == sorted(paid()), "what waited ran behind the replay, in order"
    until(lambda: {letter["state"] for letter in deployment.letters("group=payments")} == {"resolved"})


def test_the_gateway_answers_as_shown_and_serves_what_is_listed(deployment: Deployment) -> None:
    said = deployment.play(DOCS / "gateway.md")
    assert '"pointer": "/payload/timestamp"' in said
    _check_first_steps(said)
    until(lambda: deployment.get("/api/v1/jobs/job-1")["status"] == "completed")
    listed = {word for span in spans(DOCS / "gateway.md") for word in span.replace(",", " ").split() if word[0] == "/"}
    served = {path for path in deployment.get("/openapi.json")["paths"] if not path.startswith(TWICE)}
    assert served - listed == set()


def _check_first_steps(said: str) -> None:
    """A job, the same one sent twice, one that was waited for, a signed one, and the story of all of them."""
    ids = re.findall(r'{"id": ?"([^"]+)", ?"status": ?"pending", ?"location"', said)
    assert ids[0] == "job-1"
    assert ids[1] == ids[2]
    assert len(re.findall('"id": ?"job-waited-for"', said)) >= 2, "its result, and its steps in the stream"
    (signed,) = re.findall(r"202 /api/v1/jobs/([0-9a-f-]{36})\n", said)
    told = {json.loads(line[6:])["id"] for line in said.splitlines() if line.startswith("data: ")}
    assert {"job-1", ids[1], "job-waited-for", signed} <= told


def test_callers_prove_who_they_are_as_shown(deployment: Deployment) -> None:
    said = deployment.play(DOCS / "access.md")
    assert len(re.findall(r"^202 /api/v1/jobs/[0-9a-f-]{36}$", said, re.MULTILINE)) == 2, "in Python and in JavaScript"
    assert '"tenant":"acme"' in said.replace('": "', '":"')
    assert re.search(r"is revoked since 20", said)
    assert re.search(r"keys\.revoke .* cli", said)
    assert re.search(r"all \d+ records are whole", said)


def test_jobs_are_listed_driven_and_told_of_live_as_shown(deployment: Deployment) -> None:
    until(lambda: (deployment.get("/api/v1/jobs/job-1") or {}).get("status") == "completed")
    said = deployment.play(DOCS / "live.md")
    assert "there is nothing left to cancel" in said
    assert '"status":"planned"' in said
    assert '"source":"jobs.payments"' in said
    steps = [line for line in said.splitlines() if line.startswith("data: ")]
    assert '"status":"pending"' in steps[0]
    assert '"status":"completed"' in steps[-1]


def test_things_are_taken_in_as_shown(deployment: Deployment) -> None:
    before = deployment.redis.hmget("keylane:idempotency:statistics", "new", "replayed")
    said = deployment.play(DOCS / "intake.md")
    assert '"id":"e-2"' in said
    assert '"pointer": "/delay"' in said
    assert '"status":"completed"' in said
    assert '"/jobs/1/payload/email"' in said
    after = re.findall(r'"new":(\d+),"replayed":(\d+),', said)[-1]
    assert [int(count) for count in after] == [int(count or 0) + 1 for count in before], "other pages send keys, too"


def test_programs_and_commands_use_the_client_as_shown(deployment: Deployment) -> None:
    said = deployment.play(DOCS / "client.md")
    assert re.search(r"^[0-9a-f-]{36} completed$", said, re.MULTILINE)
    assert "[202, 202, 202]\nTrue\ninvalid-request /payload/email" in said
    assert said.count('"status": "completed"') == 2, "submitted and waited for, and shown"
    assert "acme/u-8" in said
    assert "published 1 records" in said
    assert "dead letters of" in said, "what would be replayed"


def test_a_sign_in_is_notified_as_shown(deployment: Deployment) -> None:
    said = deployment.play(DOCS / "signin.md")
    assert "Firefox 145" in said
    (shown,) = (block for block in blocks(DOCS / "signin.md") if "АНХААРУУЛГА" in block.text)
    assert shown.text.strip() in said
    until(lambda: deployment.get("/api/jobs/signin-7f3a")["status"] == "completed")


def test_nothing_of_the_embedded_stack_runs_beside(deployment: Deployment) -> None:
    assert "nothing is running" in deployment.play(DOCS / "embedded-stack.md")


def test_every_page_with_examples_is_played_here() -> None:
    served = ("gateway", "intake", "live", "client", "signin", "access")
    names = ("jobs", "operations", "publishing", "dead-letters", "embedded-stack", "seeing", *served)
    # The contributor's guide only speaks of the marker.
    assert {DOCS / f"{name}.md" for name in names} == RUNNING
