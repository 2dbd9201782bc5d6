"""``keylane submit``: submit a job through the gateway."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.mistakes import explained
from streams.cli.remote import GatewayError, Url, connected

app = typer.Typer(
    invoke_without_command=True, subcommand_metavar="", context_settings={"allow_interspersed_args": True}
)


class PayloadError(Exception):
    """A payload that cannot be read."""


@app.callback()
def submit(
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="Of the job.")],
    payload: Annotated[str, typer.Option(help="JSON text, @FILE, or - for standard input.")],
    tenant: Annotated[str | None, typer.Option(help="Whose; by default the API key's.")] = None,
    key: Annotated[str | None, typer.Option(help="What must stay in order; by default as the type says.")] = None,
    job_id: Annotated[str | None, typer.Option("--id", help="By default the gateway makes one.")] = None,
    wait: Annotated[float | None, typer.Option(min=0, max=60, help="Seconds to wait for its end.")] = None,
    url: Url = None,
) -> None:
    """Submit a job and print what the gateway says of it as JSON."""
    with explained(GatewayError, PayloadError), connected(url) as client:
        found = client.submit(type_name, _value(payload), tenant=tenant, key=key, id=job_id, wait=wait)
    typer.echo(found.model_dump_json(indent=2))


def _value(given: str) -> Any:
    try:
        text = sys.stdin.read() if given == "-" else Path(given[1:]).read_text() if given.startswith("@") else given
        return json.loads(text)
    except OSError as error:
        raise PayloadError(f"--payload: {given[1:]} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise PayloadError(f"--payload is not JSON: {error}") from None
