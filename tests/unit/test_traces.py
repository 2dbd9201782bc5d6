"""One trace from the request through the headers of its record to the handler and what it does, and nothing told that
should not be."""

from __future__ import annotations

import asyncio
import logging
import pkgutil
import subprocess
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

import opentelemetry.semconv._incubating.attributes as incubating
import opentelemetry.semconv.attributes as stable
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from streams.adapters.metrics import PrometheusMetrics
from streams.app.tracing import SILENT, tracing
from streams.core.commands import Append, DeadLetter
from streams.core.commit_map import CommitMap
from streams.core.deadletter import Failure
from streams.core.headers import SOURCE, Level, dlt_level
from streams.core.replay import Where, replay_headers
from streams.core.track import SHELF_SOURCE, Entry, Track
from streams.engine.calls import Calls
from streams.engine.fence import Means
from streams.engine.messages import moved_message
from streams.engine.once import OnceCalls
from streams.engine.outbox import Outbox
from streams.engine.runner import Runner
from streams.engine.steps import Rest
from streams.engine.telemetry import Telemetry
from streams.engine.traced import TracedCalls
from streams.history import TOPIC as HISTORY
from streams.job import Batch, Group, Once, Reject, Retry, TransientError, Work
from streams.ports import Context, Email, Message, Position, TopicPartition
from streams.settings import Settings, SettingsError, load
from streams.tracing.mailing import TracedMail
from streams.tracing.names import TABLE
from streams.tracing.publishing import TracedPublisher
from tests.effect_doubles import MemoryLedger
from tests.gateway_doubles import JOB, Bench, MemoryLog
from tests.simulation.broker import Rec
from tests.tracing_doubles import MemoryTracing, attributes, id_of, links_of, parent_of, row_of, text_of, trace_of
from tests.unit.test_runner import Plain, Quiet, entries

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
EMITTED = Message("events.done", b"steppe/user-1", b"v", [("ce_id", b"e-1"), ("ce_type", b"done")])


@pytest.fixture
def traces() -> MemoryTracing:
    return MemoryTracing()


def traced_gateway(traces: MemoryTracing) -> Bench:
    log = MemoryLog()
    return Bench(log=log, changes={"tracing": traces, "publisher": TracedPublisher(log, traces, SILENT)})


def record_of(message: Message, offset: int = 0, topic: str | None = None) -> Rec:
    return Rec(topic or message.topic, 0, offset, 0, message.key, message.value, tuple(message.headers))


def bound(traces: MemoryTracing, handler: Any, **declared: Any) -> Any:
    return TracedCalls(Calls(1), traces, "emails").bind(Work(handler=handler, **declared))


async def run(traces: MemoryTracing, record: Rec, handler: Any, attempt: int = 1) -> Any:
    return await bound(traces, handler)(None, Context(record, "emails", "notification.signin", attempt, None))


def failure_of(record: Rec) -> Failure:
    return Failure(
        topic=record.topic,
        partition=0,
        offset=record.offset,
        timestamp=0,
        group="emails",
        handler="notification.signin",
        attempts=1,
        time=0,
        exception="ValueError",
        message="",
        stack=lambda: "",
        classification="exhausted",
        version="1",
    )


def entry_of(record: Rec) -> Entry:
    return Entry(Track(SHELF_SOURCE, 0, CommitMap()), record.offset, record.key, SOURCE, record)


async def test_a_request_its_record_its_retry_its_replay_and_what_the_handler_does_are_one_trace(
    traces: MemoryTracing,
) -> None:
    bench = traced_gateway(traces)
    async with bench.client() as client:
        assert (await client.post("/api/v1/jobs", json=JOB, headers={"traceparent": CALLER})).status == 202
    (message,) = bench.log.of("jobs.emails")

    async def fails(_payload: Any, _ctx: Any) -> None:
        raise ValueError("no")

    async def emits(_payload: Any, _ctx: Any) -> None:
        await TracedPublisher(bench.log, traces).publish(EMITTED)

    first = record_of(message)
    with pytest.raises(ValueError, match="no"):
        await run(traces, first, fails)
    tier = TopicPartition("jobs.emails.emails.retry.1", 0)
    retried = moved_message(Append(entry_of(first), Level(0, 0, 1), 0, failure_of(first)), tier, "m", aliases=False)
    second = record_of(retried)
    with pytest.raises(ValueError, match="no"):
        await run(traces, second, fails, 2)
    dlt = TopicPartition("jobs.emails.emails.dlt", 0)
    dead = record_of(
        moved_message(
            DeadLetter(entry_of(second), dlt_level(0), hold=False, failure=failure_of(second)), dlt, "m", aliases=True
        )
    )
    again = replay_headers(dead.headers, Where(dead.topic, 0), 0, "r-1")
    await run(traces, Rec("jobs.emails.emails.retry.0", 0, 0, 0, dead.key, dead.value, tuple(again)), emits)

    assert {trace_of(span) for span in traces.spans} == {TRACE}
    request, sent = traces.one("POST /api/v1/jobs"), traces.one("send jobs.emails")
    assert parent_of(request) == CALLER.split("-")[2]
    assert parent_of(sent) == id_of(request)
    runs = [span for span in traces.spans if span.name.startswith("process ")]
    assert [span.name for span in runs] == [
        "process jobs.emails",
        "process jobs.emails.emails.retry.1",
        "process jobs.emails.emails.retry.0",
    ]
    assert {parent_of(span) for span in runs} == {id_of(sent)}
    assert [links_of(span) for span in runs] == [[id_of(sent)]] * 3
    assert [attributes(span)["keylane.outcome"] for span in runs] == ["failed", "failed", "done"]
    assert [attributes(span)["keylane.attempt"] for span in runs] == [1, 2, 1]
    assert parent_of(traces.one("send events.done")) == id_of(runs[2])
    carried = dict(bench.log.of("events.done")[0].headers)["traceparent"].decode()
    assert carried == f"00-{TRACE}-{id_of(traces.one('send events.done'))}-01"


async def test_every_span_has_the_attributes_of_its_row_and_no_others(traces: MemoryTracing) -> None:
    bench = traced_gateway(traces)
    async with bench.client() as client:
        await client.post("/api/v1/jobs", json=JOB)
        await client.get("/nowhere")
    (message,) = bench.log.of("jobs.emails")

    async def handle(_payload: Any, _ctx: Any) -> Any:
        await TracedMail(Mail(), "log", traces).send(LETTER)
        return Retry("later")

    await run(traces, record_of(message), handle)
    await bound(traces, many, batch=Batch(size=2))(
        [None, None], [Context(record_of(message, n), "emails", "x", 1, None) for n in range(2)]
    )
    with Telemetry("emails", PrometheusMetrics(), Outbox(bench.log), None, "", traces).committing("jobs.emails"):
        pass
    assert {row_of(span).name for span in traces.spans} == {row.name for row in TABLE}
    for span in traces.spans:
        row, found = row_of(span), set(attributes(span))
        assert set(row.always) <= found <= {*row.always, *row.sometimes}, span.name


def test_the_names_are_those_of_the_semantic_conventions() -> None:
    modules = [
        import_module(f"{package.__name__}.{found.name}")
        for package in (incubating, stable)
        for found in pkgutil.iter_modules(package.__path__)
    ]
    known = {value for module in modules for name, value in vars(module).items() if name.isupper()}
    ours = {name for row in TABLE for name in (*row.always, *row.sometimes) if not name.startswith("keylane.")}
    assert ours - known == set()


async def test_a_request_says_what_went_wrong_by_its_status_only(traces: MemoryTracing) -> None:
    bench = traced_gateway(traces)
    bench.log.faults["jobs.emails"] = TransientError("broker-1.internal is away")
    async with bench.client() as client:
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 503
        assert (await client.get("/nobody/here")).status == 404
        assert (await client.request("PROPFIND", "/api/v1/jobs")).status == 405

    failed, unmatched = traces.one("POST /api/v1/jobs"), traces.one("GET")
    assert (failed.status.status_code, attributes(failed)["error.type"]) == (StatusCode.ERROR, "503")
    assert attributes(traces.one("send jobs.emails"))["error.type"] == "TransientError"
    assert unmatched.status.status_code is StatusCode.UNSET
    assert "http.route" not in attributes(unmatched)
    (strange,) = [span for span in traces.spans if attributes(span).get("http.request.method") == "_OTHER"]
    assert "PROPFIND" not in text_of(strange)


async def test_probes_and_scrapes_are_not_traced(traces: MemoryTracing) -> None:
    async with traced_gateway(traces).client() as client:
        for path in ("/health", "/health/ready", "/api/v1/health/live", "/metrics", "/api/v1/metrics/system"):
            assert (await client.get(path, headers={"traceparent": CALLER})).status == 200
    assert traces.spans == ()


async def test_lines_of_a_request_and_of_a_handler_name_the_trace(
    traces: MemoryTracing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streams.gateway.access")

    async def logs(_payload: Any, _ctx: Any) -> None:
        lines.append(structlog.contextvars.get_contextvars())

    lines: list[dict[str, Any]] = []
    bench = traced_gateway(traces)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        async with bench.client() as client:
            await client.post("/api/v1/jobs", json=JOB, headers={"traceparent": CALLER})
    (message,) = bench.log.of("jobs.emails")
    await run(traces, record_of(message), logs)
    assert [line["trace_id"] for line in logged if line["event"] == "request"] == [TRACE]
    assert [line["trace_id"] for line in lines] == [TRACE]
    assert "trace_id" not in structlog.contextvars.get_contextvars()


async def test_no_span_holds_a_payload_a_query_or_a_secret(traces: MemoryTracing) -> None:
    bench = traced_gateway(traces)
    headers = {"Authorization": "Bearer t0ps3cret", "X-Api-Key": "t0ps3cret", "Cookie": "session=t0ps3cret"}
    async with bench.client() as client:
        await client.post("/api/v1/jobs", json=JOB, headers=headers)
        await client.get("/api/v1/jobs/nobody?key=t0ps3cret", headers=headers)
    (message,) = bench.log.of("jobs.emails")

    async def fails(_payload: Any, _ctx: Any) -> None:
        raise ValueError("bat@example.com t0ps3cret")

    with pytest.raises(ValueError, match="t0ps3cret"):
        await run(traces, record_of(message), fails)
    await TracedMail(Mail(), "log", traces).send(LETTER)
    told = "".join(map(text_of, traces.spans))
    assert "t0ps3cret" not in told
    assert "bat@example.com" not in told


@pytest.mark.parametrize(
    ("handler", "outcome", "error"),
    [
        (lambda: None, "done", None),
        (lambda: Retry("again"), "failed", "Retry"),
        (lambda: Reject("never"), "failed", "Reject"),
        (lambda: _raise(TransientError("away")), "blocked", "TransientError"),
        (lambda: _raise(KeyError("x")), "failed", "KeyError"),
        (lambda: _raise(asyncio.CancelledError()), "cancelled", None),
    ],
)
async def test_a_run_tells_its_outcome(traces: MemoryTracing, handler: Any, outcome: str, error: str | None) -> None:
    async def handle(_payload: Any, _ctx: Any) -> Any:
        return handler()

    await asyncio.gather(run(traces, record_of(EMITTED), handle), return_exceptions=True)
    span = traces.one("process events.done")
    assert (attributes(span)["keylane.outcome"], attributes(span).get("error.type")) == (outcome, error)


async def test_a_run_that_takes_too_long_fails_with_its_time_out(traces: MemoryTracing) -> None:
    async def hangs(_payload: Any, _ctx: Any) -> None:
        await asyncio.Event().wait()

    context = Context(record_of(EMITTED), "emails", "done", 1, None)
    await asyncio.gather(bound(traces, hangs, timeout=0.01)(None, context), return_exceptions=True)
    assert attributes(traces.one("process events.done"))["error.type"] == "RunTimeoutError"


async def test_a_batch_is_one_span_that_links_to_each_of_its_records(traces: MemoryTracing) -> None:
    log = MemoryLog()
    publisher = TracedPublisher(log, traces)
    for _ in range(3):
        await publisher.publish(EMITTED)
    contexts = [Context(record_of(message, n), "g", "done", 1, None) for n, message in enumerate(log.messages)]
    await bound(traces, many, batch=Batch(size=8))([None] * 3, contexts)

    span = traces.one("process events.done")
    assert parent_of(span) is None
    assert links_of(span) == [id_of(sent) for sent in traces.named("send events.done")]
    assert attributes(span)["messaging.batch.message_count"] == 3


async def test_what_runs_in_a_thread_is_in_the_span_as_well(traces: MemoryTracing) -> None:
    seen: list[Any] = []

    def handle(_payload: Any, _ctx: Any) -> None:
        seen.append((threading.current_thread(), trace.get_current_span().get_span_context().span_id))

    await run(traces, record_of(EMITTED), handle)
    ((thread, span_id),) = seen
    assert thread is not threading.main_thread()
    assert span_id == traces.one("process events.done").context.span_id
    assert not trace.get_current_span().get_span_context().is_valid, "and nobody is after it"


async def test_runs_of_one_row_are_spans_of_their_own_also_where_they_wait(traces: MemoryTracing) -> None:
    seen: list[tuple[int, str, str]] = []

    async def handle(number: int, ctx: Context) -> None:
        before = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
        await asyncio.sleep(0 if number % 2 else 0.001)
        seen.append((number, before, trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)))

    works = {"x": Work(handler=handle)}
    group = Group(name="g", source="s", tiers=(), partitions=1, concurrency=1, works=works)
    runner = Runner(group, Plain(), None, TracedCalls(Calls(1), traces, "g"), Quiet(), lambda: 0.5, "test")
    rows = [entries(*[(key, f"x:{number}") for number in range(4)]) for key in ("t/a", "t/b")]
    for row in rows:
        for number, entry in enumerate(row):
            carried = f"00-{number + 1:032x}-00f067aa0ba902b7-01".encode()
            entry.record = entry.record._replace(headers=(*entry.record.headers, ("traceparent", carried)))
    await asyncio.gather(*(run_entry(runner, entry) for row in rows for entry in row))

    assert sorted(seen) == sorted((n, f"{n + 1:032x}", f"{n + 1:032x}") for n in range(4) for _ in rows)
    assert sorted(map(trace_of, traces.spans)) == sorted(f"{n + 1:032x}" for n in range(4) for _ in rows)


async def run_entry(runner: Runner, entry: Entry) -> None:
    found = runner.begin((entry,))
    if isinstance(found, Rest):
        await found


async def test_a_handler_marked_once_is_traced_with_what_its_ledger_says(traces: MemoryTracing) -> None:
    ledger, runs = MemoryLedger(), []

    async def handle(_payload: Any, ctx: Context) -> None:
        await ctx.confirm()
        runs.append(trace.get_current_span().get_span_context().span_id)

    means = Means(ledger=ledger, metrics=PrometheusMetrics(), group="g", owner="me")
    once = TracedCalls(OnceCalls(Calls(1), means), traces, "g").bind(Work(handler=handle, once=Once()))
    for attempt in (1, 2):
        await once(None, Context(record_of(EMITTED), "g", "done", attempt, None))
    spans = traces.named("process events.done")
    assert runs == [spans[0].context.span_id], "the second was recognised and not run"
    assert [attributes(span)["keylane.outcome"] for span in spans] == ["done", "done"]


class Queueing(MemoryLog):
    """Acknowledges when it is told to, and takes nothing while it is ``away``."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[asyncio.Future[Position]] = []
        self.away = False

    async def send(self, message: Message) -> Any:
        return (await self.send_many([message]))[0]

    async def send_many(self, messages: Sequence[Message]) -> Any:
        if self.away:
            raise TransientError("away")
        self.messages.extend(messages)
        pending = [asyncio.get_running_loop().create_future() for _ in messages]
        self.pending.extend(pending)
        return pending


async def one_by_one(publisher: TracedPublisher, messages: list[Message]) -> list[Any]:
    return [await publisher.send(message) for message in messages]


async def together(publisher: TracedPublisher, messages: list[Message]) -> list[Any]:
    return list(await publisher.send_many(messages))


@pytest.mark.parametrize("handed_over", [one_by_one, together])
async def test_a_queued_record_is_a_span_until_it_is_acknowledged(traces: MemoryTracing, handed_over: Any) -> None:
    log = Queueing()
    ends = await handed_over(TracedPublisher(log, traces), [EMITTED] * 3)
    assert traces.spans == ()
    log.pending[0].set_result(Position("events.done", 3, 17))
    log.pending[1].set_exception(TransientError("away"))
    log.pending[2].cancel()
    await asyncio.gather(*ends, return_exceptions=True)

    found = [attributes(span) for span in traces.spans]
    assert [(one.get("messaging.kafka.offset"), one.get("error.type")) for one in found] == [
        (17, None),
        (None, "TransientError"),
        (None, "CancelledError"),
    ]
    assert found[0]["messaging.destination.partition.id"] == "3"
    carried = [dict(message.headers)["traceparent"].decode().split("-")[2] for message in log.messages]
    assert carried == [id_of(span) for span in traces.spans]


@pytest.mark.parametrize("handed_over", [one_by_one, together])
async def test_records_that_cannot_be_queued_end_their_spans(traces: MemoryTracing, handed_over: Any) -> None:
    log = Queueing()
    log.away = True
    with pytest.raises(TransientError):
        await handed_over(TracedPublisher(log, traces), [EMITTED])
    assert attributes(traces.one("send events.done"))["error.type"] == "TransientError"


async def test_of_a_batch_only_what_has_no_trace_gets_one(traces: MemoryTracing) -> None:
    log = Queueing()
    copy = EMITTED._replace(headers=[*EMITTED.headers, ("traceparent", CALLER.encode())])
    ends = await TracedPublisher(log, traces).send_many([copy, EMITTED])
    assert log.messages[0] == copy
    for pending in log.pending:
        pending.set_result(Position("events.done", 0, 0))
    await asyncio.gather(*ends)
    assert len(traces.spans) == 1


async def test_copies_keep_their_trace_and_book_keeping_has_none(traces: MemoryTracing) -> None:
    log = MemoryLog()
    publisher = TracedPublisher(log, traces, SILENT)
    copy = EMITTED._replace(headers=[*EMITTED.headers, ("traceparent", CALLER.encode())])
    await publisher.publish(copy)
    await publisher.publish(EMITTED._replace(topic=HISTORY))
    assert log.messages[0] == copy
    assert log.messages[1].headers == EMITTED.headers
    assert traces.spans == ()


async def test_what_is_not_sampled_is_not_told_but_its_records_carry_the_decision() -> None:
    traces = MemoryTracing(ALWAYS_OFF)
    bench = traced_gateway(traces)
    async with bench.client() as client:
        await client.post("/api/v1/jobs", json=JOB)
    (message,) = bench.log.of("jobs.emails")
    flags = int(dict(message.headers)["traceparent"].rpartition(b"-")[2], 16)
    assert not flags & 1, "the bit that says it is sampled"
    sampled = MemoryTracing()
    await run(sampled, record_of(message), nothing)
    assert traces.spans == sampled.spans == ()


async def test_headers_that_are_no_trace_begin_a_new_one(traces: MemoryTracing) -> None:
    record = record_of(EMITTED._replace(headers=[*EMITTED.headers, ("traceparent", b"\xff nonsense")]))
    await run(traces, record, nothing)
    span = traces.one("process events.done")
    assert (parent_of(span), links_of(span)) == (None, [])


async def test_without_a_collector_there_is_no_tracing() -> None:
    async with tracing(Settings(_env_file=None), "keylane-test") as found:
        assert found is None


@pytest.mark.parametrize("value", ["collector:4318", "ftp://collector"])
def test_an_address_that_is_no_url_stops_the_start(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYLANE_OTLP_ENDPOINT", value)
    with pytest.raises(SettingsError, match="KEYLANE_OTLP_ENDPOINT"):
        load()


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streams.adapters.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as Python says it of what is not installed
    with pytest.raises(SettingsError, match=r"KEYLANE_OTLP_ENDPOINT.*keylane\[otel\]"):
        async with tracing(Settings(_env_file=None, otlp_endpoint="http://127.0.0.1:1"), "keylane-test"):
            raise AssertionError("it must not start")


def test_gateways_and_workers_do_not_load_what_is_off() -> None:
    # The Redis client loads parts of OpenTelemetry wherever they are installed, but never its tracing or an exporter.
    look = "import sys, streams.cli.gateway, streams.cli.worker; sys.exit(bool({*sys.modules} & {*sys.argv}))"
    ours = ("streams.adapters.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter")
    assert subprocess.run([sys.executable, "-c", look, *ours], check=False).returncode == 0


LETTER = Email(to="bat@example.com", subject="s", text="t0ps3cret", html="", message_id="<1@keylane>")


class Mail:
    async def send(self, email: Email) -> None: ...


async def nothing(_payload: Any, _ctx: Any) -> None: ...


async def many(_payloads: Any, _contexts: Any) -> None: ...


def _raise(error: BaseException) -> None:
    raise error
