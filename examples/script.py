"""A synchronous script: one run around all of it, and one for each question."""

import os

from nat_observability import step
from nat_observability.containers import observability


@step("tool", "search")
def search(words: str) -> list[str]:
    """Find what is known of some words."""
    return [f"All about {words}"]


def main() -> None:
    """Answer two questions. The exporters are open inside the outer block, and drained when it ends."""
    os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")
    with observability(job="nightly") as process:
        for question in ("tea", "milk"):
            with process.run_scope(job="answer", conversation_id=question):
                search(question)


if __name__ == "__main__":
    main()
