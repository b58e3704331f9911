"""What only POSIX systems have is not needed: without it the package imports, records and delivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import run_program

# Each imports a dozen frameworks anew, which takes long on a busy machine.
pytestmark = pytest.mark.timeout(60)

# Before anything of ours is imported. The standard library of a system that lacks a name does not need it either, and
# gets what it has here from what it imported before.
_WITHOUT_POSIX = """
    import asyncio, contextlib, errno, fcntl, http.server, importlib, json, logging.handlers, multiprocessing.context
    import multiprocessing.util, os, pkgutil, random, shutil, signal, socket, sqlite3, ssl, struct, subprocess, sys
    import tempfile, threading, types, urllib.request, uuid, warnings, webbrowser
    from concurrent.futures import process
    from pathlib import Path

    with warnings.catch_warnings(action="ignore"):
        for name in (
            "pydantic pydantic_settings structlog dependency_injector.containers dependency_injector.wiring httpx "
            "anyio uvicorn grpc opentelemetry.sdk.trace celery kombu faststream taskiq litestar litestar.testing quart "
            "starlette.testclient fastapi pytest"
        ).split():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    posix_lock, lock_kind, unlock_kind = fcntl.fcntl, fcntl.F_WRLCK, fcntl.F_UNLCK
    rename = os.replace

    def locking(fd, mode, size):
        # Windows has locks on bytes of the file from its position on, exclusive, and of the open file.
        assert mode in (0, 2)
        position = os.lseek(fd, 0, os.SEEK_CUR)
        region = struct.pack("hhqqi4x", lock_kind if mode == 2 else unlock_kind, os.SEEK_SET, position, size, 0)
        try:
            posix_lock(fd, 37, region)  # F_OFD_SETLK
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    def replace(source, target):
        # As on Windows, where an open file can be neither renamed nor replaced.
        for each in os.scandir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(each.path) in (os.fspath(source), os.fspath(target)):
                    raise PermissionError(errno.EACCES, "is used by another process", os.fspath(source))
        rename(source, target)

    os.replace = replace
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2)

    for name in (
        "register_at_fork fork forkpty pread pwrite preadv pwritev readv writev sendfile posix_spawn posix_spawnp "
        "geteuid getuid getgid getegid getgroups getpgid getpgrp getsid setsid setuid setgid seteuid setegid setpgid "
        "initgroups nice wait wait3 wait4 waitid killpg fchmod fchown fchdir chown lchown chroot mkfifo mknod major "
        "minor statvfs fstatvfs sync fdatasync lockf openpty ttyname tcgetpgrp uname sysconf confstr getloadavg "
        "sched_getaffinity sched_yield get_blocking set_blocking posix_fadvise posix_fallocate pipe2 memfd_create "
        "getpriority setpriority ctermid pathconf fpathconf pidfd_open eventfd O_CLOEXEC O_NONBLOCK O_NOCTTY O_SYNC "
        "O_DSYNC O_DIRECTORY O_NOFOLLOW O_ASYNC O_DIRECT O_NOATIME O_PATH WNOHANG"
    ).split():
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE SIGCONT SIGSTOP SIGTSTP alarm "
                 "setitimer getitimer pthread_kill pthread_sigmask sigwait sigpending siginterrupt pause").split():
        if hasattr(signal, name):
            delattr(signal, name)
    for name in "fcntl grp pwd resource termios tty pty posix syslog readline".split():
        sys.modules[name] = None
"""


def without_posix(code: str, *arguments: object) -> str:
    """Run a program in an interpreter that lacks what only POSIX has; return what it printed."""
    return run_program(_WITHOUT_POSIX + code, *arguments, measured=False, fresh=True).stdout


def test_every_module_imports_without_posix() -> None:
    """Those of frameworks too: whatever is missing is not asked for on import."""
    printed = without_posix("""
    import nat_observability, containers

    imported = 0
    for package in (nat_observability, containers):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                # A framework that is not installed says so in our words, and in no others.
                assert type(error).__name__ in ("MissingExtraError", "UnsupportedVersionError"), (module.name, error)
            imported += 1
    print(imported)
    """)
    assert int(printed) > 100


@pytest.mark.timeout(60)  # it imports everything anew
def test_a_workflow_is_recorded_without_posix(tmp_path: Path) -> None:
    """By every sink that needs no network, with and without spool and event loop; and the command shows it."""
    without_posix(
        """
    folder = Path(sys.argv[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the console exporter

    from containers import ObservabilityContainer
    from nat_observability import ContextState, step
    from nat_observability.integrations.workers.process_scope import ProcessScope
    from nat_observability.integrations.workers.run_scope import run_scope
    from nat_observability.settings import ObservabilitySettings
    from nat_observability.store import Store

    prefix = "NAT_OBSERVABILITY_EXPORTERS__"
    for spool in ("off", "always", "spill"):
        for kind in ("memory", "console", "file", "sqlite"):
            name = f"{prefix}{kind}_{spool}".upper() + "__"
            os.environ[name + "TYPE"] = kind
            if kind in ("file", "sqlite"):
                os.environ[name + "PATH"] = str(folder / f"{spool}.{kind}")
            if spool != "off":
                os.environ[name + "SPOOL"] = spool
                os.environ[name + "SPOOL_PATH"] = str(folder / f"spool-{kind}-{spool}")

    container = ObservabilityContainer()

    async def main():
        async with ProcessScope(container, "the test"):
            async with container.exporter_manager().start(ContextState()) as manager:
                for number in range(20):
                    with step("tool", f"async {number}"):
                        pass
                assert (await manager.flush()).complete
                ledgers = {name: each.ledger for name, each in manager.report.exporters.items()}
                assert len(ledgers) == 12
                assert {(ledger.accepted, ledger.delivered) for ledger in ledgers.values()} == {(20, 20)}, ledgers

    asyncio.run(main())
    with ProcessScope(container, "the test"):
        with run_scope(container):
            for number in range(20):
                with step("tool", f"sync {number}"):
                    pass
    for name, health in container.runtime_object().health().exporters.items():
        assert (health.ledger.accepted, health.ledger.delivered) == (40, 40), (name, health)
    for spool in ("off", "always", "spill"):
        assert (folder / f"{spool}.file").read_bytes().count(b"\\n") == 40
        with Store(folder / f"{spool}.sqlite") as store:
            assert sum(len(store.spans(each.run.run_id)) for each in store.runs()) == 40
    assert not list(folder.glob("spool-*/*.sqlite3"))

    import io
    from nat_observability.cli import entry

    store = str(folder / "off.sqlite")
    with Store(store) as opened:
        some_run = next(iter(opened.runs())).run.run_id
    shown = ["runs", "--store", store], ["show", some_run, "--store", store]
    for arguments in (*shown, ["settings"], ["settings", "--example"]):
        sys.argv = ["nat-observability", *arguments]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                entry.main()
            except SystemExit as ended:
                assert not ended.code, (arguments, ended.code)
        assert printed.getvalue(), arguments
    """,
        tmp_path,
    )


def test_a_file_is_rolled_and_shared_without_posix(tmp_path: Path) -> None:
    """By two sinks at once, on one path: no line is torn, and none is lost while there are backups."""
    without_posix(
        """
    from nat_observability.sinks import FileSink

    path = Path(sys.argv[1]) / "steps.jsonl"
    sinks = [FileSink(path, max_bytes=2000, backups=500) for _ in range(2)]
    for sink in sinks:
        sink.open()

    def write(sink, name):
        for number in range(200):
            sink.write([{"name": name, "number": number, "text": "x" * 40}])

    threads = [threading.Thread(target=write, args=(sink, name)) for name, sink in enumerate(sinks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in sinks:
        sink.close()
    files = [each for each in path.parent.iterdir() if each.suffix != ".lock"]
    lines = [line for each in files for line in each.read_text().splitlines()]
    steps = {(item["name"], item["number"]) for item in map(json.loads, lines)}
    assert len(lines) == len(steps) == 400, (len(lines), len(steps))
    assert len(files) > 10
    """,
        tmp_path,
    )
