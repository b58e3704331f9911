"""phoenix(), langfuse(): the OTLP endpoint and headers of a back end, from just an address and a key."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from nat_observability.validation import secret_text


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """What an OTLP sink needs for a back end: `OtlpHttpSink(target.endpoint, headers=target.headers)`."""

    endpoint: str
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    resource: Mapping[str, str] = field(default_factory=dict)
    """Attributes to add to the resource."""


def phoenix(
    endpoint: str = "http://localhost:6006",
    api_key: SecretStr | str | None = None,
    *,
    project: str | None = None,
) -> OtlpTarget:
    """
    Return where Phoenix accepts spans, over HTTP.

    https://arize.com/docs/phoenix/sdk-api-reference/python/arize-phoenix-otel: a key is a bearer token, and the
    project is an attribute of the resource; without one, spans go to the project "default".

    Args:
        endpoint: The address of the Phoenix server, as in PHOENIX_COLLECTOR_ENDPOINT.
        api_key: An API key for that server; a local one needs none by default.
        project: The project that spans go to.
    """
    headers = {} if api_key is None else {"authorization": SecretStr(f"Bearer {secret_text(api_key)}")}
    return OtlpTarget(endpoint, headers, {} if project is None else {"openinference.project.name": project})


def langfuse(
    public_key: SecretStr | str,
    secret_key: SecretStr | str,
    host: str = "https://cloud.langfuse.com",
    *,
    environment: str | None = None,
    release: str | None = None,
) -> OtlpTarget:
    """
    Return where Langfuse accepts spans, over HTTP; it does not support gRPC.

    https://langfuse.com/integrations/native/opentelemetry: the project's keys are used for Basic authentication, and
    with ingestion version 4 spans appear at once instead of after minutes.

    Args:
        host: The address of the region (https://us.cloud.langfuse.com) or of your own server.
        environment: The environment that spans belong to there.
        release: The release that they come from.
    """
    pair = f"{secret_text(public_key)}:{secret_text(secret_key)}".encode()
    headers = {
        "authorization": SecretStr(f"Basic {base64.b64encode(pair).decode()}"),
        "x-langfuse-ingestion-version": SecretStr("4"),
    }
    about = {"langfuse.environment": environment, "langfuse.release": release}
    resource = {name: value for name, value in about.items() if value is not None}
    return OtlpTarget(f"{host.rstrip('/')}/api/public/otel", headers, resource)
