"""BARS: the rows of the pages' main table: the work in words, what a missed bar comes from, and what would help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """
    A row of the main table, or several with one work: one for each peer.

    Args:
        key: Of its rows: `Row.key`.
        title: As the page has it.
        work: What each side does, in words.
        explained: Why the bar is missed, if it is, and what would help. Shown only then.
        profile: For `benchmarks.profile`: the contender, its work, its exporters and whether it sends to a receiver; or
            one of the works that are not a contender's, and after a colon what it is given.
    """

    key: str
    title: str
    work: str
    explained: str = ""
    profile: tuple[str, str, int, bool] | str | None = None


_OURS, _PURE, _SPOOLED = "ours", "ours, redaction in pure Python", "ours, spooled always"

_DRAINED = (
    "both until an exporter has dropped it; equal queues and batches; the peer redacts and bounds nothing"
)
_SENT = "both gzip, to a receiver that only reads; equal queues and batches; every span answered"
_PURE_EXPLAINED = (
    "Without the engine each text passes Python's `re` once for every group of rules that may concern it. The engine, "
    "hyperscan, is the cure where it has a wheel: the row above has it."
)
_REDACTED = (
    "What is over the bar is redaction, which the peer does not do: the second column is the same without it. A text "
    "that was not seen before is searched once, whatever its exporters; less would mean searching less of it."
)
_RUN_EXPLAINED = (
    "A run has a start and a stop that a span does not: its exporters are chosen, its context is set, its ledger and "
    "its report are written. That part is fixed, so that a run of ten steps is ahead again; a run that is less than "
    "this would have no report."
)

BARS = (
    Bar(
        "bare",
        "bare step, drained",
        f"a span without values inside a run, {_DRAINED}",
        _REDACTED + " A name is looked at as well.",
        (_OURS, "bare", 1, False),
    ),
    Bar(
        "bare-pure",
        "bare step, redaction in pure Python",
        "the same",
        _PURE_EXPLAINED,
        (_PURE, "bare", 1, False),
    ),
    Bar(
        "caller",
        "bare step, the caller's thread",
        "ours: ids, parent, two clocks, capture, the run's counts and limits, the queue; the floor: ids, "
        "parent, two clocks "
        "and a deque, in a class with slots; the peer: its span, and its processor's queue",
        "The floor captures, counts, limits and hands over nothing: no ledger, no bounds, no isolation of runs. "
        "What is "
        "above it is the event and its stream, and counting it once for each exporter. A recorder in C takes a "
        "quarter of the floor, and would be the way below it.",
        (_OURS, "bare", 1, False),
    ),
    Bar(
        "text",
        "step with 2 KB in, 1 KB out, drained",
        f"new texts, {_DRAINED}",
        _REDACTED,
        (_OURS, "text", 1, False),
    ),
    Bar(
        "text-pure",
        "step with 2 KB, redaction in pure Python",
        "the same",
        _PURE_EXPLAINED,
        (_PURE, "text", 1, False),
    ),
    Bar(
        "history",
        "step with a history of 50 KB, drained",
        f"50 new messages of 1 KB as the input, a list of dicts; the peer's user encodes them with `json`; {_DRAINED}",
        _REDACTED,
        (_OURS, "history", 1, False),
    ),
    Bar(
        "history-pure",
        "history of 50 KB, redaction in pure Python",
        "the same",
        _PURE_EXPLAINED,
        (_PURE, "history", 1, False),
    ),
    Bar(
        "run",
        "run of 10 steps to OTLP, a span",
        f"a step and nine inside it, 120 B in and 240 B out each, {_SENT}",
        _REDACTED,
        (_OURS, "run", 1, True),
    ),
    Bar(
        "run-pure",
        "run of 10 steps to OTLP, redaction in pure Python",
        "the same",
        _PURE_EXPLAINED,
        (_PURE, "run", 1, True),
    ),
    Bar(
        "agent",
        "agent of 50 turns to OTLP, a span",
        f"a model call for each turn with the whole conversation as its input, messages of 1 KB, {_SENT}",
        "The input is as many bytes as the peer's: they are captured, searched, compressed and sent. What did "
        "not change "
        "since the turn before is captured and searched once; compressing and sending it is most of what is left.",
        (_OURS, "agent", 1, True),
    ),
    Bar(
        "agent-pure",
        "agent of 50 turns, redaction in pure Python",
        "the same",
        _PURE_EXPLAINED,
        (_PURE, "agent", 1, True),
    ),
    *(
        Bar(
            f"root-{exporters}",
            f"run with one root step, {exporters} span exporter{'s' if exporters > 1 else ''}",
            "ours: a run with its ledger, report and isolated exporters, and one step in it; the peer: one span "
            "and as "
            "many batch processors; both wait for one turn of the loop inside",
            _RUN_EXPLAINED,
            (_OURS, "root", exporters, False),
        )
        for exporters in (1, 5, 20)
    ),
    *(
        Bar(
            f"web-{exporters}",
            f"web request, {exporters} exporter{'s' if exporters > 1 else ''}, added",
            "FastAPI under uvicorn, 2 KB of JSON, eight connections; what a request costs the server beyond "
            "what it costs "
            "without observability; ours: a run with one step; the peer: one span and as many batch processors",
            _RUN_EXPLAINED
            + " The request's attributes are redacted too. The profile is that of the run alone.",
            (_OURS, "root", exporters, False),
        )
        for exporters in (1, 3)
    ),
    *(
        Bar(
            f"unheard-{kilobytes}",
            f"nothing recorded, {what}",
            "a step of a run that no exporter takes, beside a step outside every run",
            "Such a step is made, entered and left, a third of the time each, and counted at its beginning and its "
            "end: the "
            "run's report says how many were not recorded. Nothing of it depends on the input. Without that count the "
            "entry would be a look at the context, as it is outside a run.",
            f"unheard:{kilobytes}",
        )
        for kilobytes, what in ((0, "no input"), (50, "50 KB"), (1000, "1 MB"))
    ),
    *(
        Bar(
            f"at-once-{runs}",
            f"{runs:,} runs at once, 5 span exporters, each",
            "runs of one step, each in a task of its own, all open at the same time, beside one after the other "
            "in tasks",
            "What is more is Python's garbage collector, which walks over all that the open runs hold, and "
            "memory that "
            "has left the cache by the time that a run ends. Fewer objects in a run are the only cure.",
            (_OURS, f"root:{runs}", 5, False),
        )
        for runs in (10, 100, 1000, 10_000)
    ),
    Bar(
        "equal-rules",
        "3 exporters of equal rules beside 1",
        "runs of one step with 1.7 KB of new text in and out",
        "The search for secrets is done once for all; what is more is each exporter's part of a run: its queue, its "
        "ledger and its batch.",
        (_OURS, "texts", 3, False),
    ),
    Bar(
        "start",
        "import and start of the container",
        "CPU of a fresh interpreter, bytecode cached, no FastAPI and no plugins of pydantic's; beside importing "
        "dependency-injector, pydantic-settings and structlog, which every container needs",
        "What is over the bar is code that is read (some 220 modules, of about 430), the two models of settings that "
        "pydantic builds, msgspec, and a full run of the garbage collector, which so many new objects bring about. "
        "Redaction is a third of it, recording some 12 ms: a forked process must not have to import it. Settings "
        "without pydantic would be most of what could go.",
        "imports:",
    ),
    *(
        Bar(
            f"store-{what}",
            f"SQLite store, {title}",
            "a batch of 512 spans from objects to rows in the store, runs and their counts included, beside "
            "`executemany` "
            "of the spans' columns alone, as tuples that are ready, into the same tables with the same indexes",
            "Nine tenths are SQLite's, and the floor's too: inserting spans, and writing the log. What is above the "
            "floor is making the columns from a span, some 3 µs, and the row of its run. Columns that are made in C "
            "would be the way below.",
            f"store:{what}",
        )
        for what, title in (("bare", "bare"), ("text", "3 KB"))
    ),
    *(
        Bar(
            f"spooled-{work}",
            f"{title}, spooled always, the caller's thread",
            "the same work with `SPOOL=always`, which has each run on disk when it ends, beside `SPOOL=off`",
            explained,
            (_SPOOLED, work, 1, False),
        )
        for work, title, explained in (
            (
                "run",
                "run of 10 steps",
                "A run waits at its end for the commit that has it on disk, and is woken: a turn of the event loop, "
                "with caches that other threads have used meanwhile. That is a fixed part for each run, a tenth of it "
                "for each span here.",
            ),
            ("bare", "bare step", "The caller's thread does the same with a spool as without."),
            ("text", "step with 3 KB", "The caller's thread does the same with a spool as without."),
        )
    ),
    *(
        Bar(
            f"threads-{threads}",
            f"{threads} threads record, a bare step",
            "bare steps of one process, shared by that many threads, each with an event loop and a run of its "
            "own; beside "
            "one thread that records as many",
            "What is more is the interpreter's lock, which is handed from thread to thread.",
            (_OURS, f"threads:{threads}", 1, False),
        )
        for threads in (2, 8, 32)
    ),
)
"""In the order of the table."""

_JOINED_EXPLAINED = (
    "Two fifths is recording, a tenth is weighing the span and counting it in its run's ledger, which the peer does "
    "not do; the rest is the event loops, this one's and the delivery's. A recorder in C would be the way below it."
)

BESIDE = (
    Bar("joined", "START and END to a drained span", "", _JOINED_EXPLAINED, "joined:"),
    Bar(
        "joined-text",
        "START and END to a drained span, input and output",
        "",
        _JOINED_EXPLAINED,
        "joined:text",
    ),
    Bar(
        "isolated-at-once",
        "1000 runs at once, 5 exporters, each",
        "",
        "These exporters have state for each run, so that each run makes an isolated instance and a subscription of "
        "every one: five thousand of both are alive at once, and the garbage collector walks over them. Making and "
        "subscribing them is half of the time. Span exporters that take every run need neither: their row is in the "
        "main table.",
        "isolated:5",
    ),
)
"""Rows outside the main table that may miss their bars."""
