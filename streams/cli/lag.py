"""``keylane lag``: how far each group is with its family, and how fast it goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from streams.app.standing import Lag, Row
from streams.cli.dlt_view import plain, when
from streams.cli.mistakes import explained
from streams.deadletters.reading import DeadLetterError
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.standing.groups import GroupStanding

app = typer.Typer(invoke_without_command=True)

_COLUMNS = ("lag", "oldest", "parked", "due", "next due", "held keys", "dead", "in/s", "done/s")


@app.callback()
def lag(
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="Only this group; repeatable.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="The source by partition, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per look and line.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks, which the rates come from.")] = 2.0,
) -> None:
    """Show lag, the oldest waiting record, what is parked, due and held, open dead letters, and the rates."""
    with explained(CatalogueError, DeadLetterError, StackError, TransientError):
        look = Lag(attach(load()), group or [])
        show = _Json() if as_json else _Screen(partitions=partitions, live=watch)
        with show, contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_looks(look, show, every, again=watch))


async def _looks(look: Lag, show: _Json | _Screen, every: float, *, again: bool) -> None:
    show.rows(await look.look(every), time.time())
    while again:
        await asyncio.sleep(every)
        show.rows(await look.look(every), time.time())


class _Json(contextlib.AbstractContextManager["_Json"]):
    """A line per look."""

    def __exit__(self, *_: object) -> None: ...

    def rows(self, rows: Sequence[Row], now: float) -> None:
        """Print them."""
        typer.echo(json.dumps({"at": when(int(now * 1000)), "groups": [_as_json(row) for row in rows]}))


class _Screen(contextlib.AbstractContextManager["_Screen"]):
    """A table, drawn over again where it is live."""

    def __init__(self, *, partitions: bool, live: bool) -> None:
        self._partitions = partitions
        self._live = Live(auto_refresh=False) if live else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def rows(self, rows: Sequence[Row], now: float) -> None:
        """Draw them."""
        drawn = _table(rows, now, partitions=self._partitions)
        if self._live is None:
            Console().print(drawn)
        else:
            self._live.update(drawn, refresh=True)


def _table(rows: Sequence[Row], now: float, *, partitions: bool) -> Table:
    table = Table("group", *_COLUMNS, caption="lag: records of the source that no commit calls finished")
    for row in rows:
        if row.standing is None:
            table.add_row(plain(row.group), plain(row.problem or ""), style="red")
            continue
        table.add_row(plain(row.group), *_figures(row, row.standing, now))
        if partitions:
            for one in row.standing.partitions:
                table.add_row(f"  {one.partition}", str(one.lag), _age(one.oldest, now))
        for place, gap in row.standing.gaps.items():
            note = f"gap: {place.topic}/{place.partition} from {gap.stood} to {gap.begin} ({gap.reason})"
            table.add_row(plain(note), style="red")
    return table


def _figures(row: Row, found: GroupStanding, now: float) -> list[str]:
    next_due = "" if found.next_due is None else f"{found.next_due - now:.0f} s"
    rates = [f"{rate:.1f}" for rate in (row.published_per_second, row.finished_per_second)]
    counts = [sum(found.parked.values()), found.due]
    return [
        str(found.lag),
        _age(found.oldest, now),
        *map(str, counts),
        next_due,
        str(found.held_keys),
        str(row.open_dead_letters),
        *rates,
    ]


def _age(published: int | None, now: float) -> str:
    return "" if published is None else f"{max(0.0, now - published / 1000):.0f} s"


def _as_json(row: Row) -> dict[str, Any]:
    if row.standing is None:
        return {"group": row.group, "problem": row.problem}
    found = asdict(row.standing)
    gaps = [{**place._asdict(), **asdict(gap)} for place, gap in row.standing.gaps.items()]
    rest = {name: value for name, value in asdict(row).items() if name not in {"standing", "problem"}}
    return {**found, "lag": row.standing.lag, "partitions": _partitions(row.standing), "gaps": gaps, **rest}


def _partitions(found: GroupStanding) -> list[dict[str, Any]]:
    return [one._asdict() for one in found.partitions]
