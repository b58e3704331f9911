"""G15: a fork while other threads hold the package's locks leaves none of them held in the child."""

from __future__ import annotations

from pathlib import Path

from tests.processes import run_program


def test_g15_locks_that_other_threads_hold_are_free_in_a_forked_child(tmp_path: Path) -> None:
    """Those of the redaction's engines, of models of settings on first use, and of the claims on spools."""
    run_program(
        """
        import os, signal, sys, threading
        from collections.abc import Callable
        from pathlib import Path

        from nat_observability.processors.redaction.first_look.engine import (
            BYTES_BEFORE_COMPILING, Engine, engine_of
        )
        from nat_observability.settings.processing import built
        from nat_observability.spool.mark import Claim

        class Model:
            "As pydantic's, before it is built."
            __pydantic_complete__ = False

            @classmethod
            def model_rebuild(cls):
                "Build nothing."

        claims = [Claim(Path(sys.argv[1]), name) for name in ("first", "second", "third")]
        claims[0].take()
        one = engine_of(["one"], tokens=False)
        asked = 0

        def take(claim, directory):
            Claim(Path(sys.argv[1]) / directory, claim).take()

        def in_engines(frame, event, arg):
            return event == "call" and frame.f_code is Engine.__init__.__code__

        def in_engine(frame, event, arg):
            global asked
            asked += event == "c_call" and arg is os.getpid and frame.f_code is Engine.count.__code__
            return asked == 2  # the first time it has not taken the lock yet

        def in_model(frame, event, arg):
            return event == "call" and frame.f_code is Model.model_rebuild.__func__.__code__

        def in_claims(frame, event, arg):
            return event == "call" and frame.f_code is Path.samefile.__code__

        uses = [
            (lambda: engine_of(["two"], tokens=False), in_engines),
            (lambda: one.count(BYTES_BEFORE_COMPILING), in_engine),
            (lambda: built(Model), in_model),
            (lambda: take("second", "elsewhere"), in_claims),
        ]
        go, threads = threading.Event(), []
        for use, is_there in uses:
            held = threading.Event()

            def profile(frame, event, arg, held=held, is_there=is_there):
                if is_there(frame, event, arg):
                    sys.setprofile(None)
                    held.set()
                    go.wait(20)

            def hold(use=use, profile=profile):
                sys.setprofile(profile)
                use()

            threads.append(threading.Thread(target=hold))
            threads[-1].start()
            assert held.wait(10), is_there
        child = os.fork()
        if not child:
            signal.alarm(10)
            for use, _ in uses:
                use()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        for thread in threads:
            thread.join(10)
        """,
        tmp_path,
    )
