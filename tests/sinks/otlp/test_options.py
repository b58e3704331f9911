"""The options of the OTLP sinks: mistakes are found when a sink is made, and say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from nat_observability.errors import SinkError
from nat_observability.sinks.otlp.grpc import OtlpGrpcSink
from nat_observability.sinks.otlp.http import OtlpHttpSink
from tests.processes import run_program

SECRET = "sk-very-secret-0123456789"
SINKS = [OtlpHttpSink, OtlpGrpcSink]

AnySink = type[OtlpHttpSink] | type[OtlpGrpcSink]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates and keys, good and bad, by name."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    one, other = authority.issue_cert("one.example"), authority.issue_cert("other.example")
    contents = {
        "ca": authority.cert_pem.bytes(),
        "cert": one.cert_chain_pems[0].bytes(),
        "key": one.private_key_pem.bytes(),
        "other_key": other.private_key_pem.bytes(),
        "protected_key": _protected_key(),
        "garbage": b"not PEM\n",
        "empty": b"",
    }
    paths = {name: directory / f"{name}.pem" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths | {"missing": directory / "missing.pem", "directory": directory}


def _protected_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("", "'' does not begin with 'http://' or 'https://'"),
        ("collector:4318", "'collector:4318' does not begin"),
        ("localhost", "'localhost' does not begin"),
        ("ftp://collector", "'ftp://collector' does not begin"),
        ("http://", "'http://' has no valid host and port"),
        ("http://:4318", "has no valid host and port"),
        ("http://host:port", "'http://host:port' is not"),
        ("http://host:99999", "'http://host:99999' is not"),
        ("http://host:0", "has no valid host and port"),
        ("http://ho st:4318", "has no valid host and port"),
        ("http://host:4318/a\nb", "has no valid host and port"),
        ("http://[::1:4318", "is not"),
    ],
)
def test_an_endpoint_that_is_not_a_url(sink: AnySink, endpoint: str, problem: str) -> None:
    """The message names the argument, what was given, and an example."""
    with pytest.raises(
        ValueError, match=r"^endpoint is a URL such as 'https://collector\.example:4318'"
    ) as caught:
        sink(endpoint)
    assert problem in str(caught.value)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(
    "endpoint", [f"http://user:{SECRET}@host", f"http://{SECRET}@host", f"nothing?key={SECRET}"]
)
def test_credentials_in_an_endpoint_are_not_shown(sink: AnySink, endpoint: str) -> None:
    """They belong in headers, and never in a message."""
    with pytest.raises(ValueError, match="endpoint") as caught:
        sink(endpoint)
    assert SECRET not in str(caught.value)


def test_an_address_for_traces_is_named_as_such() -> None:
    """Each message names the argument that is wrong."""
    with pytest.raises(ValueError, match=r"^traces_endpoint is a URL"):
        OtlpHttpSink(traces_endpoint="collector/v1/traces")


def test_grpc_has_no_paths() -> None:
    """An address with a path is one for HTTP."""
    for endpoint in ("http://host:4317/v1/traces", "https://host?a=b"):
        with pytest.raises(ValueError, match=r"endpoint has a path.* use OtlpHttpSink\."):
            OtlpGrpcSink(endpoint)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        (
            {"x-key": f"{SECRET}\n"},
            "the value of 'x-key' holds a character that no header can, such as a line break",
        ),
        ({"x-key": SecretStr(f"{SECRET}\r\nx-other: a")}, "the value of 'x-key' holds"),
        ({"x-key": f"{SECRET}\0"}, "the value of 'x-key' holds"),
        ({"x-key": f"{SECRET}é"}, "the value of 'x-key' holds"),
        ({"a": "b", f"Bearer {SECRET}": ""}, "the name of header 2 is not made of letters"),
        ({"x-key:": SECRET}, "the name of header 1"),
        ({"": SECRET}, "the name of header 1"),
        ({"x-key": SECRET, "X-Key": SECRET}, "'x-key' comes twice"),
        ({"Content-Type": "text/plain"}, "'content-type' is set by the sink. Leave it out."),
    ],
)
def test_a_header_that_cannot_be_sent(sink: AnySink, headers: dict[str, Any], problem: str) -> None:
    """The message says which one and what is wrong, and never shows the value, nor what could be one."""
    with pytest.raises(ValueError, match=r"^headers: ") as caught:
        sink(headers=headers)
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["grpc-timeout", "te", "trace-bin", "x!key"])
def test_a_header_that_grpc_cannot_send(name: str) -> None:
    """gRPC has names of its own, and fewer characters in the others."""
    with pytest.raises(ValueError, match=f"headers: .*{name!r}"):
        OtlpGrpcSink(headers={name: "value"})


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(sink: AnySink, timeout: float) -> None:
    """The message names the value and the default."""
    with pytest.raises(
        ValueError, match=r"timeout is a positive, finite number of seconds, not .*default is 10"
    ):
        sink(timeout=timeout)


@pytest.mark.parametrize("sink", SINKS)
def test_a_compression_that_does_not_exist(sink: AnySink) -> None:
    """The message names what does."""
    unknown: Any = "brotli"
    with pytest.raises(ValueError, match="compression is 'gzip' or 'none', not 'brotli'"):
        sink(compression=unknown)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"ca_file": "missing"},
            "ca_file .*missing.pem: cannot be read: No such file or directory. Check the path",
        ),
        ({"ca_file": "directory"}, "ca_file .*: cannot be read: Is a directory"),
        ({"ca_file": "garbage"}, "ca_file .*garbage.pem: cannot be used: .*certificates in PEM format"),
        ({"ca_file": "empty"}, "ca_file .*empty.pem: cannot be used"),
        (
            {"client_certificate": "missing", "client_key": "key"},
            "client_certificate .*missing.pem: cannot be read",
        ),
        ({"client_certificate": "cert", "client_key": "missing"}, "client_key .*missing.pem: cannot be read"),
        (
            {"client_certificate": "garbage", "client_key": "key"},
            "client_certificate .*garbage.pem: cannot be used",
        ),
        (
            {"client_certificate": "cert", "client_key": "other_key"},
            "cert.pem: does not belong to the private key",
        ),
        ({"client_certificate": "cert"}, "cert.pem: cannot be used: .*private key in PEM format"),
        (
            {"client_certificate": "cert", "client_key": "protected_key"},
            "cert.pem: cannot be used: the private key is protected by a passphrase",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used(
    sink: AnySink, files: dict[str, Path], options: dict[str, str], problem: str
) -> None:
    """The message names option and file, what is wrong with it, and the cure. Nothing asks for a passphrase."""
    with pytest.raises(SinkError, match=problem):
        sink("https://host", **{option: files[name] for option, name in options.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("sink", SINKS)
def test_certificates_that_do_not_go_together(sink: AnySink, files: dict[str, Path]) -> None:
    """A key needs its certificate, and all of them need https."""
    with pytest.raises(ValueError, match="client_key needs a client_certificate"):
        sink("https://host", client_key=files["key"])
    with pytest.raises(ValueError, match="need an endpoint that begins with 'https://'"):
        sink("http://host", ca_file=files["ca"])


@pytest.mark.parametrize(
    ("sink", "module", "extra"), [("OtlpHttpSink", "aiohttp", "otlp"), ("OtlpGrpcSink", "grpc", "grpc")]
)
def test_a_missing_extra_is_named_when_a_sink_is_made(sink: str, module: str, extra: str) -> None:
    """Its client is not imported with the package; without it, the error says what to install."""
    program = """
        import sys
        sink, module = sys.argv[1:]
        import nat_observability.sinks.otlp.http, nat_observability.sinks.otlp.grpc
        import nat_observability.sinks.otlp.presets
        assert not {"aiohttp", "grpc", "google.protobuf", "opentelemetry"} & set(sys.modules)
        sys.modules[module] = None
        from nat_observability.errors import MissingExtraError
        try:
            getattr(sys.modules[f"nat_observability.sinks.otlp.{'http' if module == 'aiohttp' else 'grpc'}"], sink)()
        except MissingExtraError as error:
            print(error)
        """
    output = run_program(program, sink, module, fresh=True).stdout
    assert output == f"{sink} needs an extra: pip install 'nat-observability[{extra}]'\n"
