"""The ``keylane`` command: each group of commands is a file beside this one, imported only when it is called."""

from __future__ import annotations

import importlib
import sys

import typer

from streams.packages import ForeignPackageError, check_packages

COMMANDS = {
    "dev": "the embedded Kafka, Redis and PostgreSQL",
    "topics": "declare, plan and apply topics",
    "schemas": "check and register contracts",
    "gateway": "serve the HTTP gateway",
    "worker": "run consumers",
    "publish": "publish events from JSON Lines",
    "submit": "submit a job through the gateway",
    "jobs": "list, show, cancel and retry jobs through the gateway",
    "lane": "show where a key stands",
    "lag": "show how far the groups are",
    "doctor": "check the set-up and say how to mend it",
    "dlt": "look at, replay and discard dead letters",
    "keys": "make, list and revoke API keys",
    "audit": "show and check the acts of administrators",
    "demo": "the sample load with its proof",
}


def main() -> None:
    """Run the command line; a mistake of the user ends with one sentence and exit code 1."""
    try:
        check_packages()
    except ForeignPackageError as error:
        sys.exit(str(error))
    name = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    for command, text in COMMANDS.items():
        if command == name:
            app.add_typer(importlib.import_module(f"streams.cli.{command}").app, name=command, help=text)
        else:
            app.command(command, help=text)(_named_only)
    app()


def _named_only() -> None:
    """Stands for a command in the list of commands, where it is never called."""
