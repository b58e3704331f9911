"""WarmInterpreter: programs in processes of their own that need not import the package, forked from one that has."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

_ROOT = Path(__file__).parents[1]
_LENGTH = 8  # bytes before a message
# What coverage sets in the environment of the programs that it measures.
_COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
# Python 3.12 warns about every fork of a process that has threads.
OPTIONS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


class Ended(types.SimpleNamespace):
    """What a program printed, and its exit status, as `subprocess.CompletedProcess` has them."""

    returncode: int
    stdout: str
    stderr: str


class WarmInterpreter:
    """
    An interpreter that has imported the package and runs each program in a fork of itself.

    A program ends as any other does: its interpreter is finalized, with threads joined and exit handlers called. Its
    garbage collector leaves alone what was imported before. What depends on that, on how the package is imported, or on
    a process that was never forked, needs a fresh interpreter instead.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            program = f"from tests.warm_interpreter import serve; serve({theirs.fileno()})"
            self._process = subprocess.Popen(
                [sys.executable, *OPTIONS, "-c", program],
                cwd=_ROOT,
                env={name: value for name, value in os.environ.items() if not _is_ours(name)},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )

    def start(
        self, code: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], strict: bool
    ) -> WarmProgram:
        """Start a program, whose warnings are errors if `strict`; one at a time."""
        with ExitStack() as opened:
            ends: list[int] = []
            outputs: list[IO[bytes]] = []
            for _ in range(2):
                reading, writing = os.pipe()
                ends.append(writing)
                outputs.append(os.fdopen(reading, "rb"))
                opened.callback(os.close, writing)
            message = json.dumps([code, list(arguments), str(cwd), dict(env), strict]).encode()
            socket.send_fds(self._socket, [len(message).to_bytes(_LENGTH)], ends)
            self._socket.sendall(message)
        stdout, stderr = outputs
        try:
            return WarmProgram(self._answer(), (stdout, stderr), self._answer)
        except BaseException:
            stdout.close()
            stderr.close()
            raise

    def _answer(self) -> int:
        answer = _read(self._socket, _LENGTH)
        if not answer:
            raise RuntimeError("The warm interpreter has ended.")
        return int.from_bytes(answer, signed=True)

    def close(self) -> None:
        """End the interpreter; programs that still run are on their own."""
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


class WarmProgram:
    """A program that a warm interpreter runs."""

    def __init__(self, pid: int, outputs: tuple[IO[bytes], IO[bytes]], status: Callable[[], int]) -> None:
        self.pid = pid
        self._outputs = outputs
        self._status = status

    def kill(self) -> None:
        """Kill it, if it still runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> Ended:
        """Return its outputs and status when both outputs have ended; kill it after `timeout` seconds."""
        texts = ["", ""]

        def read(index: int) -> None:
            with self._outputs[index] as output:
                texts[index] = output.read().decode()

        readers = [Thread(target=read, args=(index,), daemon=True) for index in range(2)]
        for reader in readers:
            reader.start()
        readers[0].join(timeout)
        late = readers[0].is_alive()
        if late:
            self.kill()
        for reader in readers:
            reader.join(timeout)
        status = self._status()
        if late:
            raise subprocess.TimeoutExpired("a warm program", timeout, texts[0].encode(), texts[1].encode())
        return Ended(returncode=os.waitstatus_to_exitcode(status), stdout=texts[0], stderr=texts[1])


_warm: WarmInterpreter | None = None


def close_warm() -> None:
    """End this process's warm interpreter, if there is one."""
    global _warm
    if _warm is not None:
        _warm.close()
        _warm = None


def run_warm(
    code: str,
    arguments: Sequence[str] = (),
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    strict: bool = True,
    measured: bool = True,
) -> Ended:
    """
    Run a program in a fork of this process's warm interpreter, which the first call starts; as `run_program`.

    Where coverage is measured it gets an interpreter of its own, unless it is not to be `measured`.
    """
    global _warm
    if measured and (coverage := {name: os.environ[name] for name in _COVERAGE if name in os.environ}):
        return _run_fresh(
            code, arguments, cwd, {**env, **coverage, "PYTHONPATH": str(_ROOT)}, timeout, strict
        )
    if _warm is None:
        _warm = WarmInterpreter()
    program = None
    try:
        program = _warm.start(code, arguments, cwd, env, strict)
        return program.wait(timeout)
    except BaseException:
        # The test's own time-out may come at any moment: the next program must not read this one's status.
        if program is not None:
            program.kill()
        close_warm()
        raise


def _run_fresh(
    code: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float, strict: bool
) -> Ended:
    options = OPTIONS if strict else ()
    # What measures a program makes it slower.
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=3 * timeout,
        check=False,
    )
    return Ended(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def serve(descriptor: int) -> None:
    """In the warm interpreter: run each program that is asked for in a fork, until nobody asks any more."""
    # What takes long. The names of these packages are imported when they are asked for.
    import nat_observability.cli.commands
    import nat_observability.containers
    import nat_observability.processors

    for package in (nat_observability, nat_observability.containers, nat_observability.processors):
        for name in package.__all__:
            getattr(package, name)

    # A program's collections, the one at its end included, would otherwise copy every page of what was imported.
    gc.freeze()
    with socket.socket(fileno=descriptor) as calls:
        while True:
            head, ends, _, _ = socket.recv_fds(calls, _LENGTH, 2)
            if not head:
                return
            code, arguments, cwd, env, strict = json.loads(_read(calls, int.from_bytes(head)))
            child = os.fork()
            if child == 0:
                calls.detach()
                os.close(descriptor)
                break
            for end in ends:
                os.close(end)
            try:
                calls.sendall(child.to_bytes(_LENGTH))
            except BrokenPipeError:
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            with suppress(BrokenPipeError):  # who asked has given up
                calls.sendall(status.to_bytes(_LENGTH, signed=True))
    _run(code, arguments, cwd, env, ends, strict)


def _run(
    code: str, arguments: list[str], cwd: str, env: dict[str, str], ends: list[int], strict: bool
) -> None:
    for number, end in enumerate(ends, 1):
        os.dup2(end, number)
        os.close(end)
    os.chdir(cwd)
    for name in set(os.environ) - set(env):
        del os.environ[name]
    os.environ.update(env)
    sys.argv[:] = ["-c", *arguments]
    main = types.ModuleType("__main__")
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    sys.excepthook = _print_without_us
    warnings.resetwarnings()
    if strict:
        warnings.filterwarnings("error")
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    exec(compile(code, "<string>", "exec"), vars(main))


def _print_without_us(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename != "<string>":
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error, traceback)


def _read(calls: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count and (piece := calls.recv(count - len(got))):
        got += piece
    return bytes(got)


def _is_ours(name: str) -> bool:
    return name.upper().startswith(("NAT_", "OTEL_", "COVERAGE"))
