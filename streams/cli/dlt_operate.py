"""Carries a replay or a discard out for the command line: the plan, the progress, the report, how to resume."""

from __future__ import annotations

import asyncio
import secrets
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.app import tools
from streams.cli import dlt_view as view
from streams.cli.mistakes import explained
from streams.deadletters.entry import Filters, format_ref
from streams.deadletters.reading import DeadLetterError
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.ports import RecordRefusedError
from streams.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.replay import Kind, Plan
    from streams.deadletters.ledger import Operation
    from streams.deadletters.operation import Operations
    from streams.deadletters.running import Report
    from streams.settings import Settings

MISTAKES = (CatalogueError, DeadLetterError, RecordRefusedError, StackError, TransientError)
LEFT_ALONE = 2
INTERRUPTED = 130
_SHOWN = 20  # refusals


class Request(NamedTuple):
    """What the operator asked for; ``rate`` in entries per second, 0 for no limit."""

    kind: Kind
    rate: float
    limit: int | None
    resume: str | None
    reason: str
    yes: bool
    output: Literal["table", "json"]


def operate(request: Request, filters: Callable[[], Filters]) -> None:
    """Plan, and with ``yes`` carry out; ends the command with its exit code."""
    with explained(*MISTAKES):
        try:
            code = asyncio.run(_operate(attach(load()), request, filters()))
        except KeyboardInterrupt:
            code = INTERRUPTED
    raise typer.Exit(code)


async def _operate(settings: Settings, request: Request, filters: Filters) -> int:
    async with tools.operations(settings) as operations:
        if request.resume is not None:
            return await _resume(settings, operations, request, filters)
        draft = await operations.draft(request.kind, filters, request.limit)
        _show_plan(request, draft.plan)
        code = LEFT_ALONE if draft.plan.refusals else 0
        if not request.yes or not len(draft.plan):
            _answer(request, {"dry_run": not request.yes, **view.plan_json(draft.plan)})
            return code
        operation_id = _new_id(request.kind)
        facts = {"entries": len(draft.plan), "filters": draft.shown}
        await tools.told(
            settings,
            f"dlt.{request.kind}",
            f"operations/{operation_id}",
            tenant=filters.tenant,
            before=facts,
            after={"reason": request.reason},
        )
        operation = await operations.start(draft, operation_id, reason=request.reason)
        report = await _carry_out(operations, request, operation)
        _answer(request, {"id": operation.id, **view.plan_json(draft.plan), **report._asdict()})
        return LEFT_ALONE if report.expired else code


async def _resume(settings: Settings, operations: Operations, request: Request, filters: Filters) -> int:
    operation_id = str(request.resume)
    if filters != Filters():
        raise DeadLetterError(f"--replay-id {operation_id}: it has its own dead letters, leave out the other options")
    if not request.yes:
        raise DeadLetterError(f"--replay-id {operation_id}: add --yes to resume it")
    await tools.told(settings, f"dlt.{request.kind}.resume", f"operations/{operation_id}", tenant=None)
    _say("making sure that nobody else works on it, which takes up to 20 seconds …")
    operation = await operations.resume(request.kind, operation_id)
    report = await _carry_out(operations, request, operation)
    _answer(request, {"id": operation.id, "entries": operation.entries, **report._asdict()})
    return LEFT_ALONE if report.expired else 0


async def _carry_out(operations: Operations, request: Request, operation: Operation) -> Report:
    command = f"keylane dlt {operation.kind} --replay-id {operation.id} --yes"
    _say(f"{operation.name}: {operation.entries} dead letters; if it is stopped, '{command}' resumes it")
    columns = (TextColumn(operation.kind), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task(operation.kind, total=operation.entries)
            report = await operations.run(
                operation, rate=request.rate, progress=lambda steps: progress.advance(bar, steps)
            )
    except (TransientError, RecordRefusedError) as error:
        raise DeadLetterError(f"{error}; resume it with '{command}'") from error
    gone = f", {report.expired} have expired and are lost" if report.expired else ""
    before = f", {report.before} were done before" if report.before else ""
    _say(f"{operation.name} has finished: {report.done} done{before}{gone}")
    return report


def _show_plan(request: Request, plan: Plan) -> None:
    if request.output == "json":
        return
    Console().print(view.plan_table(plan))
    for state, count in sorted(plan.passed_over.items()):
        _say(f"{count} of those asked for are {state}: nothing to {request.kind}")
    for one in plan.refusals[:_SHOWN]:
        _say(f"refused: {format_ref(one.where, one.offset)}: {one.reason}")
    if len(plan.refusals) > _SHOWN:
        _say(f"refused: {len(plan.refusals) - _SHOWN} more")
    if not len(plan):
        _say(f"nothing to {request.kind}")
    elif not request.yes:
        _say(f"this was a dry run: add --yes to {request.kind} {len(plan)} dead letters")


def _answer(request: Request, value: dict[str, Any]) -> None:
    if request.output == "json":
        typer.echo(view.dumped({"kind": request.kind, **value}))


def _new_id(kind: Kind) -> str:
    return f"{kind[0]}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _say(text: str) -> None:
    typer.echo(text, err=True)
