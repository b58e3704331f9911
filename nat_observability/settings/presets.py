"""Presets: the back ends that take OTLP and need no more than a key and a project, one row of data each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nat_observability.settings.exporters.models import PresetName


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a maker's documentation asks of a client that sends spans over OTLP.

    In `headers` and `resource`, `{api_key}`, `{project}` and `{account}` stand for the exporter's settings, and
    `{basic}` for account and key as Basic authentication encodes them. What holds a setting that is not set is left
    out.

    Attributes:
        maker: The product, as its maker writes it.
        endpoint: The address for all signals, to which `/v1/traces` is added; None if there is no common one.
        endpoint_form: How the address looks, if there is no common one.
        path: What is added to the address of a server before `/v1/traces`, such as `/otel`, unless it ends in it.
        traces_path: What is added to the address of a server instead of `/v1/traces`.
        headers: Names in lower case, and values.
        resource: Attributes of the resource.
        required: The settings without which the back end refuses spans.
        project_is, account_is: What these two settings are called there.
        dialect: The vocabulary that it reads best, or several with commas.
        variables: For each setting the maker's own variables that stand in for it, the first that is set.
        site: A variable of the maker's that names a site, and the address of a site.
        source: Where the maker documents this.
    """

    maker: str
    endpoint: str | None
    headers: Mapping[str, str]
    source: str
    dialect: str
    endpoint_form: str | None = None
    path: str = ""
    traces_path: str | None = None
    resource: Mapping[str, str] = msgspec.field(default_factory=dict)
    required: tuple[str, ...] = ("api_key",)
    project_is: str = "the project"
    account_is: str | None = None
    variables: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    site: tuple[str, str] | None = None


PRESETS: Mapping[PresetName, Preset] = {
    "arize": Preset(
        maker="Arize AX",
        endpoint="https://otlp.arize.com",
        headers={
            "authorization": "{api_key}",
            "api_key": "{api_key}",
            "arize-space-id": "{account}",
            "space_id": "{account}",
            "arize-interface": "otel",
        },
        resource={"openinference.project.name": "{project}"},
        required=("api_key", "account", "project"),
        account_is="the space id",
        dialect="openinference",
        variables={
            "endpoint": ("ARIZE_COLLECTOR_ENDPOINT",),
            "api_key": ("ARIZE_API_KEY",),
            "account": ("ARIZE_SPACE_ID",),
            "project": ("ARIZE_PROJECT_NAME",),
        },
        source="https://arize.com/docs/ax/observe/tracing/configure/arize-otel",
    ),
    "datadog": Preset(
        maker="Datadog LLM Observability",
        endpoint="https://otlp.datadoghq.com",
        headers={"dd-api-key": "{api_key}", "dd-otlp-source": "llmobs"},
        # The service's name is the application that spans are shown under.
        resource={"service.name": "{project}"},
        project_is="the ML app, instead of SERVICE_NAME",
        dialect="genai",
        variables={"api_key": ("DD_API_KEY",), "project": ("DD_LLMOBS_ML_APP",)},
        site=("DD_SITE", "https://otlp.{}"),
        source="https://docs.datadoghq.com/llm_observability/instrumentation/otel_instrumentation/",
    ),
    "dynatrace": Preset(
        maker="Dynatrace",
        endpoint=None,
        endpoint_form="https://ENVIRONMENT.live.dynatrace.com",
        path="/api/v2/otlp",
        headers={"authorization": "Api-Token {api_key}"},
        required=("endpoint", "api_key"),
        dialect="genai",
        variables={"endpoint": ("DT_ENDPOINT",), "api_key": ("DT_API_TOKEN",)},
        source="https://docs.dynatrace.com/docs/ingest-from/opentelemetry/getting-started/otlp-export",
    ),
    "galileo": Preset(
        maker="Galileo",
        endpoint="https://api.galileo.ai",
        traces_path="/otel/traces",
        headers={"galileo-api-key": "{api_key}", "project": "{project}", "logstream": "{account}"},
        required=("api_key", "project"),
        account_is="the log stream; without it, the project's default",
        dialect="openinference",
        variables={
            "endpoint": ("GALILEO_API_URL",),
            "api_key": ("GALILEO_API_KEY",),
            "project": ("GALILEO_PROJECT",),
            "account": ("GALILEO_LOG_STREAM",),
        },
        source="https://docs.galileo.ai/how-to-guides/third-party-integrations/otel",
    ),
    "grafana": Preset(
        maker="Grafana Cloud",
        endpoint=None,
        endpoint_form="https://otlp-gateway-ZONE.grafana.net",
        path="/otlp",
        headers={"authorization": "Basic {basic}"},
        required=("endpoint", "api_key", "account"),
        account_is="the instance id of the stack",
        dialect="genai",
        variables={
            "endpoint": ("GRAFANA_CLOUD_OTLP_ENDPOINT",),
            "api_key": ("GRAFANA_CLOUD_API_KEY",),
            "account": ("GRAFANA_CLOUD_INSTANCE_ID",),
        },
        source="https://grafana.com/docs/grafana-cloud/send-data/otlp/send-data-otlp/",
    ),
    "honeycomb": Preset(
        maker="Honeycomb",
        endpoint="https://api.honeycomb.io",
        headers={"x-honeycomb-team": "{api_key}", "x-honeycomb-dataset": "{project}"},
        project_is="the dataset, which only Classic environments need",
        dialect="genai",
        variables={
            "endpoint": ("HONEYCOMB_API_ENDPOINT",),
            "api_key": ("HONEYCOMB_API_KEY",),
            "project": ("HONEYCOMB_DATASET",),
        },
        source="https://docs.honeycomb.io/send-data/opentelemetry/",
    ),
    "langsmith": Preset(
        maker="LangSmith",
        endpoint="https://api.smith.langchain.com",
        path="/otel",
        headers={
            "x-api-key": "{api_key}",
            "langsmith-project": "{project}",
            "x-tenant-id": "{account}",
        },
        account_is="the workspace id, for a key that is valid in several",
        # Types of runs other than of models and tools, documents and metadata it reads in OpenInference's words only.
        dialect="genai,openinference",
        variables={
            "endpoint": ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"),
            "api_key": ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"),
            "project": ("LANGSMITH_PROJECT", "LANGCHAIN_PROJECT"),
            "account": ("LANGSMITH_WORKSPACE_ID",),
        },
        source="https://docs.langchain.com/langsmith/trace-with-opentelemetry",
    ),
    "mlflow": Preset(
        maker="MLflow",
        endpoint="http://localhost:5000",
        headers={"authorization": "Bearer {api_key}", "x-mlflow-experiment-id": "{project}"},
        required=("project",),
        project_is="the id of the experiment",
        # Types of retrievers and workflows it reads in OpenInference's words only.
        dialect="genai,openinference",
        variables={
            "endpoint": ("MLFLOW_TRACKING_URI",),
            "api_key": ("MLFLOW_TRACKING_TOKEN",),
            "project": ("MLFLOW_EXPERIMENT_ID",),
        },
        source="https://mlflow.org/docs/latest/genai/tracing/opentelemetry/ingest/",
    ),
    "patronus": Preset(
        maker="Patronus",
        endpoint="https://otel.patronus.ai:4318",
        headers={"x-api-key": "{api_key}", "pat-project-name": "{project}"},
        dialect="openinference",
        variables={
            "endpoint": ("PATRONUS_OTEL_ENDPOINT",),
            "api_key": ("PATRONUS_API_KEY",),
            "project": ("PATRONUS_PROJECT_NAME",),
        },
        source="https://docs.patronus.ai/docs/tracing/opentelemetry",
    ),
    "weave": Preset(
        maker="W&B Weave",
        endpoint="https://trace.wandb.ai",
        path="/otel",
        headers={"wandb-api-key": "{api_key}"},
        resource={"wandb.entity": "{account}", "wandb.project": "{project}"},
        required=("api_key", "account", "project"),
        account_is="the entity: a team's or a user's name",
        dialect="genai",
        variables={
            "api_key": ("WANDB_API_KEY",),
            "account": ("WANDB_ENTITY",),
            "project": ("WANDB_PROJECT",),
        },
        source="https://docs.wandb.ai/weave/guides/tracking/otel",
    ),
}
"""The presets by the exporter type that uses them."""
