"""Scores a peer on the corpus, in its own environment: `python -m benchmarks.redaction_corpus.peers detect-secrets`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.redaction_corpus.score import Redact, personal, text_of
from benchmarks.redaction_corpus.table import Table, measured


def detect_secrets() -> Redact:
    """All plugins and filters as they are by default, on each line of a text; what they report is taken out."""
    from detect_secrets.core import scan
    from detect_secrets.settings import default_settings
    from detect_secrets.util.code_snippet import get_code_snippet

    logging.disable(logging.ERROR)

    def reported(line: str) -> Iterator[str]:
        # As in the scan of a file. `scan_line` is for a line that is known to be a secret, and takes any word for one.
        context = get_code_snippet(lines=[line], line_number=1)
        given = {"filename": "example.txt", "line": line, "context": context}
        for plugin in scan.get_plugins():
            for secret in scan._scan_line(plugin, line_number=1, **given):
                if secret.secret_value and not scan._is_filtered_out(
                    ["context"], secret=secret.secret_value, plugin=plugin, **given
                ):
                    yield secret.secret_value

    def redact(given: Any) -> str:
        text = text_of(given)
        with default_settings():
            for line in text.splitlines():
                for secret in reported(line):
                    text = text.replace(secret, "[redacted]")
        return text

    return redact


def logfire() -> Redact:
    """The scrubber with its default patterns, on an attribute of a neutral name."""
    from logfire._internal.scrubbing import Scrubber

    scrubber = Scrubber(None)

    def redact(given: Any) -> str:
        # Data arrives there as JSON in a string, which it decodes.
        left, _ = scrubber.scrub_value(("attributes", "value"), given)
        return left if isinstance(left, str) else json.dumps(left, ensure_ascii=False)

    return redact


def presidio() -> Callable[[str, str], str]:
    """The recognisers that go by patterns, without a language model and without the words around."""
    import tldextract
    from presidio_analyzer import predefined_recognizers as all_of_them

    # It would otherwise fetch the list of domains.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())
    recognisers = {
        "email": (all_of_them.EmailRecognizer(), "EMAIL_ADDRESS"),
        "phone": (all_of_them.PhoneRecognizer(), "PHONE_NUMBER"),
        "card": (all_of_them.CreditCardRecognizer(), "CREDIT_CARD"),
        "iban": (all_of_them.IbanRecognizer(), "IBAN_CODE"),
        "ip": (all_of_them.IpRecognizer(), "IP_ADDRESS"),
    }

    def redact(name: str, text: str) -> str:
        recogniser, entity = recognisers[name]
        for found in sorted(recogniser.analyze(text, [entity], None), key=lambda each: -each.start):
            text = text[: found.start] + "[redacted]" + text[found.end :]
        return text

    return redact


PEERS: dict[str, tuple[str, Callable[[], Table]]] = {
    "detect-secrets": ("detect_secrets", lambda: measured(detect_secrets())),
    "logfire": ("logfire", lambda: measured(logfire())),
    "presidio-analyzer": ("presidio_analyzer", lambda: Table(personal=personal(presidio()))),
}
"""Each peer by its name on PyPI, with its module."""


def main() -> None:
    """Print the rows of one peer, nothing if it is not installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redaction_corpus.peers", description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    name = parser.parse_args().peer
    module, measure = PEERS[name]
    if importlib.util.find_spec(module) is None:
        print(f"{name} is not installed here: it is left out")
        return
    print(f"== {name}")
    measure().print()


if __name__ == "__main__":
    main()
