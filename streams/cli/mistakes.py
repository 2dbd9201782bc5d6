"""How a command ends when the operator can help it: one sentence on stderr and exit code 1, never a traceback."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from streams.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors, and mistakes in the settings, into their message and exit code 1."""
    expected: tuple[type[Exception], ...] = (*errors, SettingsError)
    try:
        yield
    except expected as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
