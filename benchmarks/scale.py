"""
Several processes through one real collector into a file, while the collector is restarted; and sizes to plan with.

`python -m benchmarks.scale` needs rotel, which has wheels for Python 3.10 to 3.13. It takes a minute or two.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import resource
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.payloads import Payloads
from benchmarks.receiver import bodies_of, running_receiver

STEPS = 10
_ROOT = Path(__file__).parents[1]
_PREFIX = "NAT_OBSERVABILITY_EXPORTERS__MAIN__"
_DIALECTS = ("genai,openinference", "genai", "openinference", "langfuse")
_WAIT = 60.0  # seconds for anything that has to happen


@dataclass(frozen=True)
class Produced:
    """What one process recorded: its ledger's accepted and delivered, and what it took."""

    accepted: int
    delivered: int
    cpu_s: float
    wall_s: float


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NAT_", "OTEL_"))}
    return kept | {_PREFIX + name: value for name, value in variables.items()}


# In the processes that record:


async def _record(spans: int, seed: int, pause: float) -> Any:
    """Record runs of ten steps with 120 B in and 240 B out, and return the ledger after the shutdown."""
    from nat_observability import ContextState, step
    from nat_observability.containers import ObservabilityContainer

    container = ObservabilityContainer()
    payloads = Payloads(seed)
    await container.init_resources()
    runtime = container.runtime_object()
    for _ in range(spans // STEPS):
        async with container.exporter_manager().start(ContextState()):
            with step("workflow", "run"):
                for _ in range(STEPS - 1):
                    with step("tool", "work", input=payloads.text(120)) as inner:
                        inner.output = payloads.text(240)
        await asyncio.sleep(pause)
    await container.shutdown_resources()
    return runtime.health().ledger


def _produce(spans: int, seed: int, pause: float) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    ledger = asyncio.run(_record(spans, seed, pause))
    found = (ledger.accepted, ledger.delivered, time.process_time() - cpu, time.perf_counter() - began)
    print(json.dumps(found), flush=True)


def _hold(spans: int, texts: bool) -> None:
    """Print how much memory that many spans take that wait in a queue."""
    from nat_observability import (
        ContextState,
        DeliveryLimits,
        ExporterManager,
        ObservabilityRuntime,
        SpanExporter,
        step,
    )

    async def never(batch: object) -> None:
        await asyncio.Event().wait()

    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    async def hold() -> None:
        payloads = Payloads()
        limits = DeliveryLimits(queue_items=2 * spans, queue_bytes=1 << 32)
        exporter = SpanExporter(never, name="never", limits=limits)
        runtime = ObservabilityRuntime({"never": exporter}, shutdown_timeout=0.1)
        async with runtime, ExporterManager.from_exporters({"never": exporter}).start(ContextState()):
            for count in (1000, spans):
                before = resident()
                for _ in range(count):
                    with step("tool", "work", input=payloads.text(2000) if texts else None) as current:
                        current.output = payloads.text(1000) if texts else None
            print((resident() - before) / spans * 1000, flush=True)
            os._exit(0)  # nothing will take them

    asyncio.run(hold())


# In the process that looks on:


class Collector:
    """A rotel that forwards to a receiver, and keeps its ports over restarts."""

    def __init__(self, forward_to: str, directory: Path) -> None:
        spec = importlib.util.find_spec("rotel")
        if spec is None or spec.origin is None:
            raise SystemExit("rotel is not installed here. Cure: pip install rotel, on Python 3.10 to 3.13.")
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self._http, grpc = one.getsockname()[1], other.getsockname()[1]
        self._command = [
            str(Path(spec.origin).with_name("rotel-agent")),
            "start",
            f"--otlp-http-endpoint=127.0.0.1:{self._http}",
            f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
            "--exporter=otlp",
            f"--otlp-exporter-endpoint={forward_to}",
            "--otlp-exporter-protocol=http",
            "--batch-timeout=20ms",
            f"--pid-file={directory / 'rotel.pid'}",
            f"--log-file={directory / 'rotel.log'}",
        ]
        self.endpoint = f"http://127.0.0.1:{self._http}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it listens."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
        )
        _until(self._listens, "rotel to listen")

    def stop(self) -> None:
        """Ask it to end, as a deployment does, and wait until it has forwarded what it took."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_WAIT)

    def _listens(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("rotel has ended")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._http)) == 0


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _WAIT
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"Waited {_WAIT:g} s for {what}.")
        time.sleep(0.02)


def _spans_in(content: bytes) -> tuple[Counter[bytes], int]:
    """Return how often each span arrived, and the bytes of the bodies before compression."""
    request = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    found: Counter[bytes] = Counter()
    size = 0
    for body in bodies_of(content):
        size += len(body)
        for of_resource in request.ExportTraceServiceRequest.FromString(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                found.update(span.span_id for span in of_scope.spans)
    return found, size


def through_collector(processes: int, spans: int, pause: float) -> None:
    """Print what arrived of what several processes sent while the collector was restarted."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = directory / "arrived"
        file.touch()
        with running_receiver(file=file) as receiver:
            collector = Collector(receiver.endpoint, directory)
            collector.start()
            variables = {"TYPE": "otlp", "ENDPOINT": collector.endpoint}

            def produce(seed: int, spans: int) -> subprocess.Popen[bytes]:
                own = {**variables, "SPOOL": "spill", "SPOOL_PATH": str(directory / f"spool-{seed}")}
                return subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "benchmarks.scale",
                        "--produce",
                        str(spans),
                        str(seed),
                        str(pause),
                    ],
                    cwd=_ROOT,
                    env=_environment(own),
                    stdout=subprocess.PIPE,
                )

            producers = [produce(seed, spans) for seed in range(processes)]
            _until(lambda: file.stat().st_size > 0, "the first spans")
            collector.stop()
            stopped = time.perf_counter()
            time.sleep(1.0)  # for as long it is away
            collector.start()
            away = time.perf_counter() - stopped
            done = [Produced(*json.loads(each.communicate()[0])) for each in producers]
            # What a process could not send before it ended waits in its spool for the next start.
            left = [seed for seed, each in enumerate(done) if each.delivered < each.accepted]
            for seed in left:
                produce(seed, 0).communicate()
            collector.stop()  # forwards the rest
        arrived, size = _spans_in(file.read_bytes())
    accepted = sum(each.accepted for each in done)
    cpu = sum(each.cpu_s for each in done)
    times = sum(arrived.values())
    print(f"{processes} processes through one collector, which was away for {away:.1f} s:")
    print(
        f"  sent {accepted:,}, delivered {sum(each.delivered for each in done):,}, arrived {len(arrived):,},"
    )
    print(f"  lost {accepted - len(arrived):,}, duplicates {times - len(arrived):,};")
    print(f"  {len(left)} processes ended while it was away, and left the rest to the next start's spool")
    print(
        f"  {accepted / cpu:,.0f} spans/s per core of CPU, import and start included; {size / times:.0f} B a span"
    )


def by_dialect(spans: int) -> None:
    """Print the bytes of a span in each dialect."""
    for dialects in _DIALECTS:
        with running_receiver() as receiver:
            variables = {"TYPE": "otlp", "ENDPOINT": receiver.endpoint, "DIALECT": dialects}
            subprocess.run(
                [sys.executable, "-m", "benchmarks.scale", "--produce", str(spans), "0", "0"],
                cwd=_ROOT,
                env=_environment(variables),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            taken = receiver.take()
        whole = sum(map(len, taken.bodies))
        print(
            f"  {dialects}: {whole / spans:.0f} B a span, {taken.wire_bytes / spans:.0f} B on the wire with gzip"
        )


def memory(spans: int) -> None:
    """Print the memory of a thousand spans that wait in a queue."""
    for texts, what in ((False, "bare"), (True, "2 KB in, 1 KB out")):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", "--hold", str(spans), str(int(texts))],
            cwd=_ROOT,
            env=_environment({}),
            stdout=subprocess.PIPE,
            check=True,
        )
        print(f"  {what}: {float(done.stdout) / 1e6:.1f} MB for 1000 spans")


def on_disk(spans: int) -> None:
    """Print how much a store and a spool grow."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as nobody:
        directory = Path(name)
        port = nobody.getsockname()[1]
        cases = {
            "store": {"TYPE": "sqlite", "PATH": str(directory / "store" / "store.sqlite3")},
            "spool": {
                "TYPE": "otlp",
                "ENDPOINT": f"http://127.0.0.1:{port}",
                "SPOOL": "always",
                "SPOOL_PATH": str(directory / "spool"),
            },
        }
        for what, variables in cases.items():
            subprocess.run(
                [sys.executable, "-m", "benchmarks.scale", "--produce", str(spans), "0", "0"],
                cwd=_ROOT,
                env=_environment(variables) | {"NAT_OBSERVABILITY_SHUTDOWN_TIMEOUT": "2"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            size = sum(path.stat().st_size for path in (directory / what).rglob("*") if path.is_file())
            print(f"  {what}: {size / spans:.0f} B a span, {size / spans / 1000:.2f} GB a million")


def main() -> int:
    """Measure, or be one of the processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--processes", type=int, default=8, help="that record; 8 by default")
    parser.add_argument("--spans", type=int, default=10_000, help="of each process; 10,000 by default")
    parser.add_argument("--pause", type=float, default=0.002, help="seconds between runs; 0.002 by default")
    parser.add_argument("--produce", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--hold", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.produce:
        _produce(int(given.produce[0]), int(given.produce[1]), float(given.produce[2]))
        return 0
    if given.hold:
        _hold(int(given.hold[0]), given.hold[1] == "1")
        return 0
    through_collector(given.processes, given.spans, given.pause)
    print("A span of 120 B in and 240 B out, in runs of ten, by dialect:")
    by_dialect(2000)
    print("Memory of what waits in a queue:")
    memory(20_000)
    print("On disk, such spans:")
    on_disk(10_000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
