"""OtlpHttpSink: spans to anything that accepts OTLP over HTTP, such as a collector, Phoenix or Langfuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
from nat_observability.sinks.otlp.body import BodyMaker, Compression, Encoding
from nat_observability.sinks.otlp.options import (
    ClientTls,
    FileName,
    Headers,
    SecretHeaders,
    check_timeout,
    shown_url,
    traces_url,
)
from nat_observability.sinks.otlp.proxy import proxy_arguments
from nat_observability.sinks.otlp.responses import (
    LONGEST_ANSWER,
    AnswerReader,
    failure_message,
    readable,
    retry_after,
)
from nat_observability.sinks.protocol import Batch
from nat_observability.version import __version__

if TYPE_CHECKING:
    import aiohttp

# https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
_RETRYABLE = frozenset({429, 502, 503, 504})
# What these say of a batch stays true of it. Anything else may come from a key, an address or the server itself.
_FINAL = frozenset({400, 411, 414, 415, 422, 431})

_CURES = {
    301: "Set the address that it redirects to as the endpoint.",
    302: "Set the address that it redirects to as the endpoint.",
    303: "Set the address that it redirects to as the endpoint.",
    307: "Set the address that it redirects to as the endpoint.",
    308: "Set the address that it redirects to as the endpoint.",
    401: "Check the key in its headers.",
    403: "Check the key in its headers, and what that key may do.",
    404: "Check the path of the endpoint.",
    405: "Check the path of the endpoint.",
    415: "Check that the endpoint takes OTLP in this encoding.",
}

_CONTENT_TYPES: Mapping[Encoding, str] = {
    "protobuf": "application/x-protobuf",
    "json": "application/json",
}
_RESERVED = ("connection", "content-encoding", "content-length", "content-type", "transfer-encoding")
_LARGE_BODY = 1024 * 1024
_PIECE = 256 * 1024


class OtlpHttpSink:
    """
    Sends spans as OTLP over HTTP/1.1, as binary protobuf or JSON, over connections that are kept alive.

    A batch is one POST. What the specification calls retryable (429, 502, 503, 504, no connection, no answer)
    raises RetryableWriteError, with what `Retry-After` asks for; 413 raises BatchTooLargeError, what
    rejects the batch for its content (400, 415, 422 and the like) PermanentWriteError, and any other answer but a
    success, such as 401, 404, 500 or a redirect, RefusedForNowError. Redirects are not followed: they would
    take the headers along.

    The status line alone decides about success. If the body of a success cannot be read or understood, the spans were
    still accepted, and sending them again would duplicate them; that is logged as `otlp_answer_not_understood`. `write`
    returns the number of spans that the back end rejected, and logs its message as `otlp_partial_success`. Each is
    logged at most every 30 seconds.

    A proxy is taken from the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) when the sink is opened; `.netrc` is
    not read. A fork is harmless: the child's `open` makes its own connections.

    Args:
        endpoint: The address of the back end for all signals; `/v1/traces` is added, as in
            OTEL_EXPORTER_OTLP_ENDPOINT.
        traces_endpoint: The address for spans, taken as it is, as in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; wins.
        headers: Sent with every request; no repr, log or error shows their values.
        compression: "gzip" or "none".
        encoding: "protobuf", which is smaller and made faster, or "json", which the protocol `http/json` is.
        timeout: Seconds for one request, from connecting to the end of the answer.
        resource: The attributes of the resource.
        resource_schema_url: The schema URL of these attributes.
        dialect: In which words spans are sent: "genai", "openinference", "langfuse", or several with commas.
        ca_file: Certificates (PEM) to trust instead of the system's.
        client_certificate: The client's certificate (PEM), for a server that asks for one.
        client_key: Its private key (PEM, without a passphrase), if it is not in the same file.

    Raises:
        MissingExtraError: aiohttp is not installed.
        SinkError: A certificate or key cannot be used.
        ValueError: Another argument is wrong.
    """

    def __init__(
        self,
        endpoint: str = "http://localhost:4318",
        *,
        traces_endpoint: str | None = None,
        headers: Headers | None = None,
        compression: Compression = "gzip",
        encoding: Encoding = "protobuf",
        timeout: float = 10.0,
        resource: Resource | None = None,
        resource_schema_url: str | None = None,
        dialect: Dialects = DEFAULT_DIALECT,
        ca_file: FileName | None = None,
        client_certificate: FileName | None = None,
        client_key: FileName | None = None,
    ) -> None:
        self._url = traces_url(endpoint, traces_endpoint)
        self.where = shown_url(self._url)
        self._headers = SecretHeaders(headers, _RESERVED, url=self._url)
        self._timeout = check_timeout(timeout)
        self._body = BodyMaker(resource, compression, encoding, dialect, resource_schema_url)
        self._content_type = _CONTENT_TYPES[encoding]
        self._compression = compression
        self._tls = ClientTls(
            secure=urlsplit(self._url).scheme == "https",
            ca_file=ca_file,
            client_certificate=client_certificate,
            client_key=client_key,
        )
        self._tls.check()
        try:
            # Here and not on the delivery thread: it is slow, and would hold the interpreter lock.
            import aiohttp
        except ImportError:
            raise MissingExtraError("OtlpHttpSink", "otlp") from None
        self._aiohttp = aiohttp
        self._session: aiohttp.ClientSession | None = None
        self._proxy: dict[str, Any] = {}
        self._answers = AnswerReader(self.where, self._headers)

    def __repr__(self) -> str:
        return f"OtlpHttpSink({self.where!r})"

    async def open(self) -> None:
        """
        Make a client. The first batch connects: a back end that is down does not keep a service from starting.

        Raises:
            SinkError: A certificate or key can no longer be used, or the environment names an unsupported kind of
                proxy.
        """
        aiohttp, loop = self._aiohttp, asyncio.get_running_loop()
        self._proxy = proxy_arguments(self._url)
        context = await loop.run_in_executor(None, self._tls.context) if self._tls.secure else None
        headers = {
            "user-agent": f"nat-observability/{__version__}",
            **self._headers.plain(),
            "content-type": self._content_type,
        }
        if self._compression == "gzip":
            headers["content-encoding"] = "gzip"
        self._session = aiohttp.ClientSession(
            # Name resolution through the loop, which works at interpreter exit too, and not through aiodns.
            connector=aiohttp.TCPConnector(
                ssl=True if context is None else context, resolver=aiohttp.ThreadedResolver()
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

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
        session = self._session
        if session is None:
            raise SinkError(self.where, "is not open", "Call open() before write().")
        body = await self._body.make(batch)
        status: int | None = None
        answer: bytes | None = None
        headers: Mapping[str, str] = {}
        try:
            async with session.post(
                self._url, data=_sendable(body), headers=_length(body), allow_redirects=False, **self._proxy
            ) as response:
                status, headers = response.status, response.headers
                answer = await self._read(response)
        except TimeoutError:
            problem = f"did not answer within {self._timeout:g} s"
        except (self._aiohttp.ClientError, OSError) as error:
            problem = self._describe(error)
        if status is None:
            # Outside the handlers: what the errors of aiohttp refer to holds the headers.
            raise RetryableWriteError(f"{self.where}: {problem}.")
        content_type = headers.get("content-type", "")
        if "text/html" in content_type and status < 300:
            problem = f"{self.where} answered {status} with a web page, so it takes no spans."
            raise RefusedForNowError(f"{problem} Check the endpoint.")
        if 200 <= status < 300:
            if answer == b"":
                return 0  # as nearly always: in either encoding it says that all were accepted
            return self._answers.rejected(answer, len(batch), content_type)
        message = failure_message(answer or b"", content_type, hide=self._headers.hide)
        raise self._refusal(status, message, headers)

    async def close(self) -> None:
        """Close the connections; does nothing if it is not open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _refusal(self, status: int, message: str, headers: Mapping[str, str]) -> Exception:
        try:
            phrase = f" {HTTPStatus(status).phrase}"
        except ValueError:
            phrase = ""
        problem = f"{self.where} answered {status}{phrase}{': ' + message if message else ''}"
        if status in _RETRYABLE:
            wait = retry_after(headers.get("retry-after"), headers.get("date"), time.time())
            return RetryableWriteError(f"{problem}.", retry_after=wait)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return BatchTooLargeError(f"{problem}. Lower batch_bytes.")
        cure = _CURES.get(status)
        refusal = PermanentWriteError if status in _FINAL else RefusedForNowError
        return refusal(f"{problem}. {cure}" if cure else f"{problem}.")

    def _describe(self, error: Exception) -> str:
        # The text of a response error has the whole URL, and its repr the headers.
        if isinstance(error, self._aiohttp.ServerDisconnectedError):
            return "the connection was closed without an answer"
        if isinstance(error, self._aiohttp.ClientResponseError):
            text = f"no valid answer ({error.status} {error.message})"
        else:
            text = str(error) or type(error).__name__
        return readable(text, self._headers.hide).rstrip(".")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Return the body of an answer, or None if it ends too early or is too long."""
        body = bytearray()
        try:
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > LONGEST_ANSWER:
                    response.close()
                    return None
        except (self._aiohttp.ClientError, OSError):
            return None
        return bytes(body)


def _length(body: bytes) -> dict[str, str]:
    return {"content-length": str(len(body))}


def _sendable(body: bytes) -> bytes | AsyncIterator[bytes]:
    # In pieces, or aiohttp would copy all of it into the socket's buffer in one stretch.
    return _pieces(body) if len(body) > _LARGE_BODY else body


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
