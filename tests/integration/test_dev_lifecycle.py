from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.dev import control, jars, ports, state
from streams.dev.errors import PortTakenError, StackError
from streams.dev.server import run
from streams.dev.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streams.settings import Settings

OWNER = """
import sys, time
from pathlib import Path
from streams.dev.stack import Stack
Stack(Path(sys.argv[1]), parts=("redis", "postgres")).start()
time.sleep(600)
"""


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.05)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that runs a stack on ``tmp_path``."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)])
    until(lambda: state.running(tmp_path))
    yield process
    process.kill()
    process.wait()
    until(lambda: not state.running(tmp_path) and lock_is_free(tmp_path))


def lock_is_free(folder: Path) -> bool:
    with state.locked(folder) as free:
        return free


def family_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_servers_end_with_their_owner_also_when_it_is_killed(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    servers = family_of(owner.pid)
    assert {"redis-server", "postgres"} <= {server.name() for server in servers}
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs(servers, timeout=15)
    assert alive == []
    assert lock_is_free(tmp_path)


def test_servers_end_when_their_guard_is_killed(owner: subprocess.Popen[bytes]) -> None:
    servers = family_of(owner.pid)
    guards = [process for process in servers if process.ppid() == owner.pid]
    for guard in guards:
        guard.kill()
    _, alive = psutil.wait_procs([server for server in servers if server not in guards], timeout=15)
    assert alive == []


def test_a_server_that_refuses_root_still_reaches_programs_in_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    program = private / "initdb"
    program.write_text("")
    program.chmod(0o755)
    look = "import os, sys; sys.exit(os.geteuid() == 0 or not os.access(sys.argv[1], os.X_OK))"
    run("look", [sys.executable, "-c", look, str(program)], tmp_path / "look.log", drop_root=True)


def test_a_second_start_joins_and_its_stop_leaves_the_servers_alone(
    owner: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    second = Stack(tmp_path, parts=("redis",))
    addresses = second.start()
    assert second.joined
    assert second.running is not None
    assert second.running.pid == owner.pid
    assert addresses.kafka_bootstrap_servers is None
    second.stop()
    assert all(map(ports.answers, state.running(tmp_path).ports.values()))  # type: ignore[union-attr] - it runs


def test_a_join_that_asks_for_more_than_runs_is_refused(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert owner.poll() is None
    with pytest.raises(StackError, match="has no kafka"):
        Stack(tmp_path).start()
    with pytest.raises(StackError, match=r"has redis on port \d+, not on 1"):
        Stack(tmp_path, parts=("redis",), asked={"redis": 1}).start()


def test_down_ends_the_stack_of_another_process(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert control.down(tmp_path)
    assert owner.wait(5) == -signal.SIGTERM
    assert lock_is_free(tmp_path)
    assert not control.down(tmp_path)


def test_data_is_not_removed_under_a_running_stack(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(StackError, match="is running"):
        control.reset(tmp_path)
    owner.kill()
    owner.wait()
    until(lambda: lock_is_free(tmp_path))
    control.reset(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["stack.lock"]


def test_a_folder_that_is_not_our_own_is_never_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(StackError, match="nothing was removed"):
        control.reset(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    stack = Stack(tmp_path, parts=("redis",))
    with socket.create_connection(_redis(stack)) as client:
        client.sendall(b"SET lane 1\r\n")
        assert client.recv(64) == b"+OK\r\n"
    stack.stop()
    with socket.create_connection(_redis(stack)) as client:
        client.sendall(b"GET lane\r\n")
        assert client.recv(64) == b"$1\r\n1\r\n"
    stack.stop()


def _redis(stack: Stack) -> tuple[str, int]:
    stack.start()
    assert stack.running is not None
    return ports.HOST, stack.running.ports["redis"]


def test_a_port_asked_for_and_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((ports.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"redis: port {port} is taken"):
            Stack(tmp_path, parts=("redis",), asked={"redis": port}).start()
    assert lock_is_free(tmp_path)


def test_a_customary_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with socket.socket() as other:
        other.bind((ports.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert ports.choose(port, None, "redis") != port
    assert ports.choose(port, None, "redis") == port


def test_damaged_data_is_one_sentence_that_names_the_log_and_nothing_is_left_running(tmp_path: Path) -> None:
    stack = Stack(tmp_path, parts=("redis", "postgres"))
    stack.start()
    stack.stop()
    (tmp_path / "postgres" / "data" / "global" / "pg_control").write_bytes(b"garbage")
    with pytest.raises(StackError, match=r"^postgres did not start: .*pg_control.*postgres\.log.*reset"):
        stack.start()
    assert lock_is_free(tmp_path)


def test_a_damaged_state_file_of_a_running_stack_is_one_sentence(
    owner: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert owner.poll() is None
    good = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(StackError, match=r"state\.json is damaged"):
        Stack(tmp_path, parts=("redis",)).start()
    (tmp_path / "state.json").write_text(good)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.dev.stack._NEEDED", 1 << 60)
    with pytest.raises(StackError, match="the disk is full"):
        Stack(tmp_path, parts=("redis",)).start()
    assert lock_is_free(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"the stack cannot use .*file.*: "):
        Stack(tmp_path / "file", parts=("redis",)).start()


def test_a_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.dev.maven.MAVEN_CENTRAL_URL", f"http://127.0.0.1:{ports.any_free()}")
    with pytest.raises(StackError, match=r"cannot be downloaded \(ConnectionError\); check the network"):
        jars.fetch(tmp_path, lambda _: None)


def test_a_jar_that_is_not_the_pinned_one_is_never_used(tmp_path: Path) -> None:
    (coordinate, *_) = jars.LOCK.read_text().split()
    lock = tmp_path / "kafka.lock"
    lock.write_text(f"{coordinate} {'0' * 64}\n")
    with pytest.raises(StackError, match=r"is not the pinned one"):
        jars.fetch(tmp_path / "cache", lambda _: None, lock)
    assert list((tmp_path / "cache").rglob("*.jar")) == []


def test_a_damaged_jar_in_the_cache_is_downloaded_again(tmp_path: Path) -> None:
    first = jars.LOCK.read_text().splitlines()[0]
    lock = tmp_path / "kafka.lock"
    lock.write_text(f"{first}\n")
    (jar,) = jars.fetch(tmp_path / "cache", lambda _: None, lock)
    whole = jar.read_bytes()
    jar.write_bytes(whole[:100])
    said: list[str] = []
    assert jars.fetch(tmp_path / "cache", said.append, lock) == [jar]
    assert jar.read_bytes() == whole
    assert said == [f"downloading {first.split()[0]}"]


def test_nothing_is_embedded_of_what_the_settings_name(settings: Settings, tmp_path: Path) -> None:
    stack = Stack.of(settings.model_copy(update={"data_dir": tmp_path / "none"}))
    stack.start()
    assert stack.running is None
    assert not (tmp_path / "none").exists()


def test_ctrl_c_ends_the_command_cleanly(tmp_path: Path) -> None:
    environment = {**os.environ, "KEYLANE_DATA_DIR": str(tmp_path), "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092"}
    command = [sys.executable, "-c", "from streams.cli import main; main()", "dev", "up"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    until(lambda: state.running(tmp_path))
    servers = family_of(process.pid)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 0, output
    assert output.endswith("stopping\n")
    assert not any(server.is_running() for server in servers)


async def test_a_warm_start_takes_its_first_record_within_six_seconds(tmp_path: Path) -> None:
    stack = Stack(tmp_path, parts=("kafka",))
    await stack.astart()  # formats the storage, and downloads if it must
    bootstrap = stack.addresses.kafka_bootstrap_servers
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("orders", 1, 1)])
    await admin.close()
    await stack.astop()

    took = [await _first_record_after_start(stack)]
    while min(took) > 6 and len(took) < 3:  # the machine may be busy with something else
        took.append(await _first_record_after_start(stack))
    assert min(took) <= 6


async def _first_record_after_start(stack: Stack) -> float:
    began = time.monotonic()
    await stack.astart()
    async with AIOKafkaProducer(bootstrap_servers=stack.addresses.kafka_bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("orders", b"1")
    took = time.monotonic() - began
    await stack.astop()
    return took
