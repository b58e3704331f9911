"""Which endpoints are reached through the proxy of the environment, and which directly."""

from __future__ import annotations

import pytest

from nat_observability.sinks.otlp.proxy import proxy_arguments


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("localhost,.invalid", "collector.invalid"),
        ("*.example.org", "otel.example.org"),
        ("example.org", "otel.example.org:4318"),
        ("example.org:4318", "example.org:4318"),
        ("EXAMPLE.org", "example.ORG"),
        ("*", "example.org"),
        ("localhost,*", "example.org"),
        ("127.0.0.1", "127.0.0.1:4318"),
        ("10.0.0.0/8", "10.1.2.3:4318"),
        ("a.example, 10.1.2.0/24", "10.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("10.1.2.3/8", "10.9.9.9"),
        ("[::1]", "[::1]:4318"),
        ("::1", "[::1]:4318"),
        ("[::1]:4318", "[::1]:4318"),
        ("0:0:0:0:0:0:0:1", "[::1]"),
        ("fd00::/8", "[fd12:3456::1]:4318"),
        ("[fd00::]/8,fd00::/8", "[fd12:3456::1]"),
    ],
)
def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str) -> None:
    """In the forms that curl and Go's HTTP client know."""
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_arguments(f"http://{host}/v1/traces") == {}


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "example.org"),
        ("example.org", "example.organic"),
        ("example.org:4317", "example.org:4318"),
        ("10.0.0.0/8", "11.0.0.1"),
        ("[::1]:4317", "[::1]:4318"),
        ("::1", "[::2]"),
        ("10.0.0.0/99,nonsense/8", "10.0.0.1"),
        ("127.0.0.0/8", "localhost"),
    ],
)
def test_what_no_proxy_does_not_name_goes_through_it(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str
) -> None:
    """A name is not resolved; what is not understood exempts nothing."""
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_arguments(f"http://{host}/v1/traces") == {"proxy": "http://proxy.example:3128"}
