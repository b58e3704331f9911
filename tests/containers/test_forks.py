"""A process that is forked while another of its threads makes what a container holds."""

from __future__ import annotations

from pathlib import Path

from tests.processes import run_program


def test_g15_a_child_makes_what_another_thread_was_making_at_the_fork(tmp_path: Path) -> None:
    """Singletons share one lock, and overrides another; the child does not have the thread that holds it."""
    run_program(
        """
        import asyncio, os, signal, threading

        from dependency_injector import providers

        from nat_observability import ContextState, SpanExporter, step
        from nat_observability.containers import ObservabilityContainer
        from nat_observability.settings import ObservabilitySettings

        parent, taken = os.getpid(), []
        making, overriding, go = threading.Event(), threading.Event(), threading.Event()

        def builder(name, own, settings):
            if os.getpid() == parent:
                making.set()
                go.wait(20)
            return SpanExporter(taken.extend, name=name)

        settings = ObservabilitySettings(exporters={"main": {"type": "own"}})
        container = ObservabilityContainer(
            settings=settings, exporter_types=providers.Object({"own": builder})
        )

        class Slow(providers.Object):
            def register_overrides(self, provider):  # is called inside of `override`
                overriding.set()
                go.wait(20)

        def override():
            # As any service does: it has nothing to do with ours.
            providers.Object(1).override(Slow(2))

        async def serve(container):
            await container.init_resources()
            async with container.exporter_manager().start(ContextState()):
                with step("tool", "work"):
                    pass
            await container.shutdown_resources()

        threads = [threading.Thread(target=each) for each in (container.exporters, override)]
        for thread, is_there in zip(threads, (making, overriding)):
            thread.start()
            assert is_there.wait(10)
        child = os.fork()
        if not child:
            signal.alarm(10)
            asyncio.run(serve(container))
            with providers.Object(1).override(2):
                os._exit(len(taken))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        go.set()
        for thread in threads:
            thread.join(10)
        asyncio.run(serve(container))
        assert len(taken) == 1
        """,
        tmp_path,
        measured=False,
    )


def test_g15_a_thread_that_forks_while_it_makes_a_singleton_goes_on_in_the_child(tmp_path: Path) -> None:
    """The lock is its own in both processes, and is given back in both."""
    run_program(
        """
        import os, signal, threading

        from dependency_injector import providers

        import nat_observability.containers.container

        made = []

        def fork():
            made.append(os.fork())
            return made

        forking, other = providers.ThreadSafeSingleton(fork), providers.ThreadSafeSingleton(object)
        signal.alarm(10)
        assert forking() is made
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        if not made[0]:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(made[0], 0)[1]) == 7
        """,
        tmp_path,
        measured=False,
    )
