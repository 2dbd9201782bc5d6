"""``keylane dev``: start, join, stop, look at and empty the embedded stack."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams.cli.mistakes import explained
from streams.dev import control, ports, state
from streams.dev.errors import StackError
from streams.dev.stack import PARTS, Stack
from streams.settings import load

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer(no_args_is_help=True)
_LOOK = 0.5  # seconds between two looks at the servers
_START = 180.0  # seconds a detached start may take, with downloads

Port = Annotated[int | None, typer.Option(help="Use this port or fail; without it a free one is found.")]


@app.command()
def up(
    detach: Annotated[bool, typer.Option(help="Leave the stack running in the background.")] = False,
    kafka_port: Port = None,
    redis_port: Port = None,
    postgres_port: Port = None,
) -> None:
    """Start what the settings do not name, or join the running stack; Ctrl-C stops it."""
    asked = {"kafka": kafka_port, "redis": redis_port, "postgres": postgres_port}
    chosen = {name: port for name, port in asked.items() if port is not None}
    with explained(StackError):
        settings = load()
        if detach:
            _start_detached(settings.data_dir, chosen)
        else:
            _serve(Stack.of(settings, asked=chosen, report=_say))


@app.command()
def down() -> None:
    """Stop the running stack, whoever started it."""
    with explained(StackError):
        _say("stopped" if control.down(load().data_dir) else "nothing is running")


@app.command()
def status() -> None:
    """Show where the servers answer; exit code 1 when none runs."""
    with explained(StackError):
        found = state.running(load().data_dir)
        if found is None:
            raise StackError("nothing is running; start it with 'keylane dev up'")
        _show(found)


@app.command()
def reset() -> None:
    """Remove all data of the stopped stack."""
    with explained(StackError):
        folder = load().data_dir
        control.reset(folder)
        _say(f"{folder} is empty")


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="kafka, redis or postgres; all of them without it.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = 50,
) -> None:
    """Print the last lines of the servers' logs."""
    with explained(StackError):
        if name is not None and name not in PARTS:
            raise StackError(f"there is no server {name!r}: choose one of {', '.join(PARTS)}")
        folder = load().data_dir
        for part in [name] if name else PARTS:
            for line in control.log_tail(folder, part, lines):
                typer.echo(f"{part}: {line}" if name is None else line)


def _serve(stack: Stack) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        stack.start()
        if stack.running is None:
            _say("the settings name every server: nothing to start")
        else:
            _show(stack.running)
            _stay(stack)
    except KeyboardInterrupt:
        _say("stopping")
    finally:
        stack.stop()


def _stay(stack: Stack) -> None:
    if stack.joined:
        _say("joined the running stack")
        return
    _say("Ctrl-C stops it")
    while not (dead := stack.dead()):
        time.sleep(_LOOK)
    raise StackError(f"{', '.join(dead)} ended by itself; see 'keylane dev logs {dead[0]}'")


def _start_detached(folder: Path, asked: dict[str, int]) -> None:
    options = [f"--{name}-port={port}" for name, port in asked.items()]
    log = folder / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        child = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-c", "from streams.cli import main; main()", "dev", "up", *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _await_detached(folder, child, log)


def _await_detached(folder: Path, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START
    while child.poll() is None and time.monotonic() < deadline:
        found = state.running(folder)
        if found is not None and found.pid == child.pid:
            _show(found)
            return
        time.sleep(0.1)
    said = log.read_text(errors="replace").strip()
    if child.poll() != 0:
        raise StackError(said.rpartition("\n")[2] or f"the stack did not start; see {log}")
    typer.echo(said)  # it joined a running stack, or had nothing to start


def _show(found: state.State) -> None:
    table = Table("server", "address", "answers")
    for name, port in found.ports.items():
        table.add_row(name, f"{ports.HOST}:{port}", "yes" if ports.answers(port) else "no")
    Console().print(table)


def _say(text: str) -> None:
    typer.echo(text)
