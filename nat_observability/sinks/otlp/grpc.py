"""OtlpGrpcSink: spans to anything that accepts OTLP over gRPC, usually a collector."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nat_observability.dialects.vocabulary import DEFAULT_DIALECT, Dialects
from nat_observability.errors import (
    BatchTooLargeError,
    MissingExtraError,
    PermanentWriteError,
    RefusedForNowError,
    RetryableWriteError,
    SinkError,
)
from nat_observability.resource import Resource
from nat_observability.sinks.otlp.body import BodyMaker, Compression, check_compression
from nat_observability.sinks.otlp.options import (
    ClientTls,
    FileName,
    Headers,
    SecretHeaders,
    check_timeout,
    parse_endpoint,
)
from nat_observability.sinks.otlp.responses import AnswerReader, readable, retry_info
from nat_observability.sinks.protocol import Batch
from nat_observability.system.fork_hooks import at_fork
from nat_observability.version import __version__

if TYPE_CHECKING:
    import grpc

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

# https://opentelemetry.io/docs/specs/otlp/#failures; RESOURCE_EXHAUSTED is one only if the server says when.
_RETRYABLE = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)

# What gRPC's own implementations say about a message above the server's limit, usually 4 MiB: Go, C++ and Python
# "larger than max", Java "exceeds maximum size", Rust "message length too large".
_TOO_LARGE = re.compile(r"larger than max|exceeds maximum|too large", re.IGNORECASE)
_SIZE_CODES = frozenset({"RESOURCE_EXHAUSTED", "OUT_OF_RANGE"})

# What these say of a batch stays true of it.
_FINAL = frozenset({"INVALID_ARGUMENT", "ALREADY_EXISTS", "FAILED_PRECONDITION"})

_CURES = {
    "UNAUTHENTICATED": "Check the key in its headers.",
    "PERMISSION_DENIED": "Check the key in its headers, and what that key may do.",
    "UNIMPLEMENTED": "Check that the endpoint takes OTLP over gRPC.",
}

_RESERVED = ("content-type", "grpc-", "te", "user-agent")
_METADATA_NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_DEFAULT_PORTS = {"http": 4317, "https": 443}
_SETTLING = 0.05
_LARGE_BODY = 256 * 1024


class OtlpGrpcSink:
    """
    Sends spans as OTLP over gRPC.

    A batch is one call. What the specification calls retryable raises RetryableWriteError, with the delay of a
    RetryInfo; a message above the server's limit raises BatchTooLargeError, what rejects the batch
    for its content PermanentWriteError, and any other failure RefusedForNowError. `write` returns the number of spans
    that the back end rejected, and logs its message as `otlp_partial_success`, at most every 30 seconds. Proxies
    are taken from the environment by gRPC itself.

    gRPC does not survive a fork while it is in use: with its asyncio interface the child crashes or hangs, with the
    synchronous one a call of the parent never ends. So this sink uses the latter, and closes its connection before
    every fork of the process, which takes 50 ms; a batch under way is sent again over a new one. In servers that fork
    their workers after start-up, OtlpHttpSink has nothing to close.

    Args:
        endpoint: `http://host:port`, or `https://host:port` for TLS. Without a port, 4317 and 443.
        headers: Sent with every call as metadata; no repr, log or error shows their values.
        compression: "none" or "gzip". gRPC compresses by itself, at zlib's level 6 and holding the interpreter lock,
            which stops the application for 20 ms per megabyte: only for slow networks and small spans. OtlpHttpSink
            compresses without this pause.
        timeout: Seconds for one call.
        resource: The attributes of the resource.
        resource_schema_url: The schema URL of these attributes.
        dialect: In which words spans are sent: "genai", "openinference", "langfuse", or several with commas.
        ca_file: Certificates (PEM) to trust instead of the system's.
        client_certificate: The client's certificate (PEM), for a server that asks for one.
        client_key: Its private key (PEM, without a passphrase), if it is not in the same file.

    Raises:
        MissingExtraError: grpcio is not installed.
        SinkError: A certificate or key cannot be used.
        ValueError: Another argument is wrong.
    """

    def __init__(
        self,
        endpoint: str = "http://localhost:4317",
        *,
        headers: Headers | None = None,
        compression: Compression = "none",
        timeout: float = 10.0,
        resource: Resource | None = None,
        resource_schema_url: str | None = None,
        dialect: Dialects = DEFAULT_DIALECT,
        ca_file: FileName | None = None,
        client_certificate: FileName | None = None,
        client_key: FileName | None = None,
    ) -> None:
        parts = parse_endpoint(endpoint)
        if parts.path not in ("", "/") or parts.query:
            raise ValueError(
                "endpoint has a path, which gRPC has none of. Leave it out, or use OtlpHttpSink."
            )
        self.where = f"{parts.scheme}://{parts.netloc}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._target = f"{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"
        self._headers = SecretHeaders(headers, _RESERVED)
        for name in self._headers.plain():
            if not _METADATA_NAME.fullmatch(name):
                raise ValueError(f"headers: gRPC cannot send {name!r} as text. Leave it out.")
        self._timeout = check_timeout(timeout)
        check_compression(compression)
        self._body = BodyMaker(resource, "none", dialect=dialect, schema_url=resource_schema_url)
        self._tls = ClientTls(
            secure=parts.scheme == "https",
            ca_file=ca_file,
            client_certificate=client_certificate,
            client_key=client_key,
        )
        self._tls.check()
        try:
            # Here and not on the delivery thread: it is slow, and would hold the interpreter lock.
            import grpc
        except ImportError:
            raise MissingExtraError("OtlpGrpcSink", "grpc") from None
        self._grpc = grpc
        self._compression = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        self._is_open = False
        self._credentials: grpc.ChannelCredentials | None = None
        self._channel: grpc.Channel | None = None
        self._export: grpc.UnaryUnaryMultiCallable[bytes, bytes] | None = None
        self._answers = AnswerReader(self.where, self._headers)

    def __repr__(self) -> str:
        return f"OtlpGrpcSink({self.where!r})"

    async def open(self) -> None:
        """
        Read certificates and key. The first batch connects: a back end may be down when a service starts.

        Raises:
            SinkError: A certificate or key can no longer be used.
        """
        if self._tls.secure:
            self._credentials = await asyncio.get_running_loop().run_in_executor(None, self._read_credentials)
        # In a forked child these are the parent's, which the hook closed before the fork.
        self._channel = self._export = None
        self._is_open = True
        _forks.watch(self)

    async def write(self, batch: Batch) -> int:
        """
        Send the batch, and return how many of its spans the back end rejected.

        Raises:
            RetryableWriteError: The back end cannot be reached, does not answer, or asks to come back later.
            BatchTooLargeError: The batch is larger than the back end accepts.
            PermanentWriteError: The back end refuses the batch, or it holds something other than spans.
            RefusedForNowError: It refuses the batch, but not for its content.
            SinkError: The sink is not open.
        """
        if not self._is_open:
            raise SinkError(self.where, "is not open", "Call open() before write().")
        body = await self._body.make(batch)
        call, answer = await self._called(body)
        if answer is not None:
            return self._answers.rejected(answer, len(batch))
        raise self._failure(call)

    async def close(self) -> None:
        """Close the connection; does nothing if it is not open."""
        self._is_open = False
        self.let_go()

    def let_go(self) -> bool:
        """Close the connection, from any thread; the next `write` opens a new one. Return whether there was one."""
        with _forks.lock:
            channel, self._channel, self._export = self._channel, None, None
        if channel is not None:
            channel.close()
        return channel is not None

    async def _called(self, body: bytes) -> tuple[grpc.Call, bytes | None]:
        """Make the call and return it when it has ended, successfully or not, with the response."""
        loop = asyncio.get_running_loop()
        if not threading.main_thread().is_alive():
            # At interpreter exit, Python 3.12.1 starts no threads, which gRPC needs for the other kind of call.
            return await loop.run_in_executor(None, self._call_blocking, body)
        if len(body) > _LARGE_BODY:
            # gRPC copies or compresses it before this returns.
            call = await loop.run_in_executor(None, self._start, body)
        else:
            call = self._start(body)
        ended: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ended.done():
                ended.set_result(None)

        def woken(_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed: nothing waits any more
                loop.call_soon_threadsafe(wake)

        call.add_done_callback(woken)
        try:
            await ended
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call, call.result() if call.code() is self._grpc.StatusCode.OK else None

    def _start(self, body: bytes) -> Any:
        # Under the lock, so that no connection is made between the hook before a fork and the fork.
        with _forks.lock:
            return self._method().future(body, **self._arguments())

    def _call_blocking(self, body: bytes) -> tuple[grpc.Call, bytes | None]:
        try:
            response, call = self._method().with_call(body, **self._arguments())
        except self._grpc.RpcError as error:
            return cast("grpc.Call", error), None
        return call, response

    def _method(self) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        if self._export is None:
            self._channel = self._connect()
            self._export = self._channel.unary_unary(_EXPORT)
        return self._export

    def _arguments(self) -> dict[str, Any]:
        return {
            "timeout": self._timeout,
            "metadata": tuple(self._headers.plain().items()),
            "compression": self._compression,
        }

    def _connect(self) -> grpc.Channel:
        options = [
            ("grpc.primary_user_agent", f"nat-observability/{__version__}"),
            ("grpc.max_send_message_length", -1),
            # The delivery retries; and once the back end is up, a connection must not wait for two minutes.
            ("grpc.enable_retries", 0),
            ("grpc.max_reconnect_backoff_ms", 5000),
            # Otherwise closing the channel would leave the connection open for others to the same address.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self._credentials is None:
            return self._grpc.insecure_channel(self._target, options)
        return self._grpc.secure_channel(self._target, self._credentials, options)

    def _read_credentials(self) -> grpc.ChannelCredentials:
        authorities, key, certificate = self._tls.contents()
        if authorities is None:
            # Otherwise gRPC trusts its own list, which lacks what an organisation has added to the system's.
            system = ssl.get_default_verify_paths().cafile
            authorities = Path(system).read_bytes() if system else None
        return self._grpc.ssl_channel_credentials(authorities, key, certificate)

    def _failure(self, call: grpc.Call) -> Exception:
        code = call.code().name
        details = call.details() or ""
        message = readable(details, self._headers.hide).rstrip(".")
        problem = f"{self.where}: {code}{': ' + message if message else ''}."
        if code in _SIZE_CODES and _TOO_LARGE.search(details):
            return BatchTooLargeError(f"{problem} Lower batch_bytes.")
        status = dict(call.trailing_metadata() or ()).get("grpc-status-details-bin")
        wait = retry_info(status) if isinstance(status, bytes) else None
        if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and wait is not None):
            return RetryableWriteError(problem, retry_after=wait)
        cure = _CURES.get(code)
        refusal = PermanentWriteError if code in _FINAL else RefusedForNowError
        return refusal(f"{problem} {cure}" if cure else problem)


class _Forks:
    """Closes the connections of every open sink before the process forks, and allows none until it has forked."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._sinks: weakref.WeakSet[OtlpGrpcSink] = weakref.WeakSet()
        self._watching = False

    def watch(self, sink: OtlpGrpcSink) -> None:
        with self.lock:
            self._sinks.add(sink)
            if not self._watching:
                self._watching = True
                at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def _before(self) -> None:
        self.lock.acquire()
        closed = [sink.let_go() for sink in list(self._sinks)]
        if any(closed):
            # gRPC's threads end in the background, without a way to wait for them.
            time.sleep(_SETTLING)

    def _in_parent(self) -> None:
        self.lock.release()

    def _in_child(self) -> None:
        self.lock = threading.RLock()
        self._sinks.clear()


_forks = _Forks()
