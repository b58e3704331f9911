"""Contract of OTEL_CONFIG_FILE: the part about traces becomes settings, and every other part is named once."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability import ContextState, ExporterManager, step
from nat_observability.builders import build_exporters
from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.standard_variables.yaml_file import substituted
from tests.otlp_receiver import request_from_json

SetThem = Callable[..., None]

FULL = """
file_format: "1.0"
log_level: warn
attribute_limits:
  attribute_value_length_limit: 4096
  attribute_count_limit: 64
resource:
  schema_url: https://schema
  attributes_list: "team=a%20b,zone=1"
  attributes:
    - {name: service.name, value: "${OTEL_SERVICE_NAME:-unknown}"}
    - {name: zone, value: 2, type: int}
    - {name: replicas, value: [a, b], type: string_array}
  detection/development:
    detectors: [{host: }, {service: }]
propagator:
  composite: [{tracecontext: }, {baggage: }]
  composite_list: "b3"
tracer_provider:
  limits: {attribute_count_limit: 32, event_count_limit: 5, link_attribute_count_limit: 6}
  sampler:
    parent_based:
      root: {trace_id_ratio_based: {ratio: 0.25}}
  processors:
    - batch:
        schedule_delay: 2000
        export_timeout: 0
        max_queue_size: 512
        max_export_batch_size: 128
        exporter:
          otlp_http:
            endpoint: ${ENDPOINT}/v1/traces
            headers: [{name: x-key, value: "${KEY}"}, {name: x-none, value: }]
            headers_list: "x-more=c%2Cd"
            compression: none
            timeout: 5000
            encoding: json
            tls: {ca_file: /ca.pem, key_file: /k.pem, cert_file: /c.pem}
    - simple: {exporter: {console: }}
    - batch: {exporter: {otlp_grpc: {endpoint: "collector:4317", tls: {insecure: true}}}}
    - batch: {exporter: {otlp_file/development: {output_stream: "file:///var/log/traces%201.jsonl"}}}
    - batch: {exporter: {nat_observability: {type: memory, limit: 7}}}
"""


@pytest.fixture
def configure(tmp_path: Path, set_them: SetThem) -> Callable[[str], Path]:
    """Names a file of this text."""

    def write(text: str, variable: str = "OTEL_CONFIG_FILE") -> Path:
        path = tmp_path / "otel.yaml"
        path.write_text(text, "utf-8")
        set_them(**{variable: str(path)})
        return path

    return write


def body(rest: str) -> str:
    return f'file_format: "1.0"\n{rest}'


def test_every_part_about_traces_is_read(configure: Callable[[str], Path], set_them: SetThem) -> None:
    """Resource, propagators, samplers, limits, processors and exporters, with variables in their places."""
    configure(FULL)
    set_them(ENDPOINT="https://collector.example", KEY="s3cr3t")
    settings = ObservabilitySettings()
    assert settings.service_name == "unknown"
    assert settings.resource_attributes == {"team": "a b", "zone": 2, "replicas": ["a", "b"]}
    assert settings.resource_schema_url == "https://schema"
    assert settings.resource_detectors == ("host", "service_instance")
    assert (settings.propagators, settings.log_level) == (("tracecontext", "baggage", "b3"), "warning")
    assert (settings.sampling_ratio, settings.sampling_parent_based) == (0.25, True)
    assert (settings.attribute_count_limit, settings.attribute_value_length_limit) == (32, 4096)
    assert (settings.event_count_limit, settings.link_count_limit) == (5, 128)
    assert (settings.event_attribute_count_limit, settings.link_attribute_count_limit) == (64, 6)
    exporters: dict[str, Any] = dict(settings.exporters)
    assert list(exporters) == ["otlp", "console", "otlp_2", "otlp_3", "memory"]
    otlp, console, grpc, file, memory = exporters.values()
    assert (otlp.type, otlp.protocol, otlp.compression) == ("otlp", "http/json", "none")
    assert otlp.traces_endpoint == "https://collector.example/v1/traces"
    assert {name: value.get_secret_value() for name, value in otlp.headers.items()} == {
        "x-more": "c,d",
        "x-key": "s3cr3t",
    }
    assert (otlp.timeout, otlp.batch_age, otlp.queue_items, otlp.batch_items) == (5.0, 2.0, 512, 128)
    assert otlp.write_timeout > 1e6
    assert [str(path) for path in (otlp.ca_file, otlp.client_certificate, otlp.client_key)] == [
        "/ca.pem",
        "/c.pem",
        "/k.pem",
    ]
    assert (console.type, console.stream, console.batch_items) == ("console", "stdout", 1)
    assert (grpc.protocol, grpc.endpoint) == ("grpc", "http://collector:4317")
    assert (file.type, file.format, str(file.path)) == ("file", "otlp_json", "/var/log/traces 1.jsonl")
    assert (memory.type, memory.limit) == ("memory", 7)


def test_what_it_describes_records(configure: Callable[[str], Path], tmp_path: Path) -> None:
    """From the file to spans, here in a file of OTLP."""
    path = tmp_path / "traces.jsonl"
    exporter = f"{{otlp_file/development: {{output_stream: 'file://{path}'}}}}"
    configure(body(f"tracer_provider: {{processors: [{{batch: {{exporter: {exporter}}}}}]}}"))
    exporters = build_exporters(ObservabilitySettings())

    async def run() -> None:
        async with ExporterManager.from_exporters(exporters).start(ContextState()) as manager:
            with step("tool", "answer"):
                pass
            await manager.flush(10)

    asyncio.run(run())
    (line,) = path.read_bytes().splitlines()
    (spans,) = request_from_json(line).resource_spans[0].scope_spans
    assert any(span.name.endswith("answer") for span in spans.spans)


def test_ours_win(configure: Callable[[str], Path], set_them: SetThem) -> None:
    """Each setting for itself, and exporters as a whole."""
    set_them(
        ENDPOINT="http://a",
        NAT_OBSERVABILITY_SERVICE_NAME="ours",
        NAT_OBSERVABILITY_SAMPLING_RATIO="1",
        NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE="memory",
    )
    configure(FULL)
    settings = ObservabilitySettings(attribute_count_limit=9)
    assert (settings.service_name, settings.sampling_ratio, settings.attribute_count_limit) == ("ours", 1, 9)
    assert list(settings.exporters) == ["main"]


def test_other_variables_count_only_if_the_file_refers_to_them(
    configure: Callable[[str], Path], set_them: SetThem
) -> None:
    """As the specification says; one warning names them, without their values."""
    set_them(OTEL_SERVICE_NAME="s3cr3t", OTEL_EXPORTER_OTLP_ENDPOINT="http://s3cr3t")
    configure(body(""))
    with pytest.warns(SettingsWarning) as caught:
        settings = ObservabilitySettings()
    assert (settings.service_name, settings.exporters) == ("unknown_service", {})
    (warning,) = caught
    names = "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME"
    assert str(warning.message).startswith(f"With OTEL_CONFIG_FILE, {names} count only if")


UNSUPPORTED = {
    "meter_provider: {readers: []}": "meter_provider is not supported: metrics of the application",
    "logger_provider: {processors: []}": "logger_provider is not supported: logs of the application",
    "instrumentation/development: {python: {}}": "instrumentation/development is not supported: ",
    "surprise: 1": "surprise is not supported: it has no effect",
    "resource: {entities: []}": "resource.entities is not supported",
    "resource: {detection/development: {detectors: [{gcp: }]}}": (
        "resource.detection/development.detectors[0].gcp is not supported: there is no such detector"
    ),
    "resource: {detection/development: {attributes: {excluded: [a]}}}": (
        "resource.detection/development.attributes is not supported: everything that the detectors find is kept"
    ),
    "propagator: {composite: [{jaeger: }]}": "propagator.composite.jaeger is not supported: its headers",
    "tracer_provider: {sampler: {jaeger_remote/development: {endpoint: x}}}": (
        "tracer_provider.sampler.jaeger_remote/development is not supported: every run is recorded"
    ),
    "tracer_provider: {sampler: {parent_based: {remote_parent_sampled: {always_off: }}}}": (
        "tracer_provider.sampler.parent_based.remote_parent_sampled is not supported: a run that continues"
    ),
    "tracer_provider: {processors: [{batch: {exporter: {zipkin: {endpoint: x}}}}]}": (
        "tracer_provider.processors[0].batch.exporter.zipkin is not supported: no such exporter is made"
    ),
    "tracer_provider: {processors: [{mine: {a: 1}}]}": (
        "tracer_provider.processors[0].mine is not supported: what it would do to spans does not happen"
    ),
    "tracer_provider: {id_generator: {random: }}": "tracer_provider.id_generator is not supported",
    "tracer_provider: {limits: {depth: 1}}": "tracer_provider.limits.depth is not supported",
    "tracer_provider: {processors: [{simple: {exporter: {otlp_file/development: }}}]}": (
        "tracer_provider.processors[0].simple.exporter.otlp_file/development.output_stream is not supported: only"
    ),
}


def test_each_part_that_is_not_supported_is_named_once(configure: Callable[[str], Path]) -> None:
    """With its place in the file, and what happens instead; the rest of the file holds."""
    for text, said in UNSUPPORTED.items():
        configure(body(f"{text}\ndisabled: true\n"))
        with pytest.warns(SettingsWarning) as caught:
            assert not ObservabilitySettings().enabled
        (warning,) = [str(each.message) for each in caught]
        assert warning.startswith(f"OTEL_CONFIG_FILE: {said}"), warning
        assert warning.endswith(". It is ignored.")


WRONG = {
    "": "file_format is missing or not known",
    'file_format: "9.0"': "file_format is missing or not known",
    "file_format: '1.0'\nresource: s3cr3t": "resource is not a mapping",
    "file_format: '1.0'\ntracer_provider: {processors: {batch: 1}}": "processors is not a list",
    "file_format: '1.0'\ntracer_provider: {processors: [{a: , b: }]}": "does not name exactly one kind",
    "file_format: '1.0'\ntracer_provider: {limits: {event_count_limit: s3cr3t}}": "is not a whole number from 0",
    "file_format: '1.0'\ntracer_provider: {sampler: {trace_id_ratio_based: {ratio: 2}}}": "a number from 0 to 1",
    "file_format: '1.0'\ndisabled: s3cr3t": "disabled is neither true nor false",
    "file_format: '1.0'\nlog_level: s3cr3t": "log_level is none of",
    "file_format: '1.0'\nresource: {attributes: [{value: s3cr3t}]}": "resource.attributes[0] has no name",
    "file_format: '1.0'\nresource: {attributes_list: s3cr3t}": "holds a member that is not key=value",
    "file_format: '1.0'\nresource: {attributes: [{name: a, value: s3cr3t, type: int}]}": (
        "resource.attributes[0].value is not of the type int"
    ),
    "file_format: '1.0'\nresource: {attributes: [{name: a, value: s3cr3t, type: bool_array}]}": (
        "resource.attributes[0].value is not the list that bool_array is"
    ),
    "file_format: '1.0'\nresource: {attributes: [{name: a, value: s3cr3t, type: integer}]}": (
        "resource.attributes[0].value has a type that is none of string, bool, int, double"
    ),
    "file_format: '1.0'\ntracer_provider: {processors: [{simple: {exporter: {otlp_http: {endpoint: s3cr3t}}}}]}": (
        "endpoint does not begin with 'http://'"
    ),
    "file_format: '1.0'\ntracer_provider: {processors: [{simple: {exporter: {nat_observability: }}}]}": (
        "nat_observability.type is missing"
    ),
    "file_format: [": "is not YAML (line 1)",
    "file_format: ${1s3cr3t}": "line 1 holds a reference that is not ${NAME}",
    "a: !!python/object/apply:os.system [s3cr3t]": "is not YAML",
}


def test_what_the_schema_does_not_allow_stops_the_start(configure: Callable[[str], Path]) -> None:
    """With the place, and without the value."""
    for text, said in WRONG.items():
        path = configure(text)
        with pytest.raises(SettingsError) as caught:
            ObservabilitySettings()
        assert said in str(caught.value), text
        assert "s3cr3t" not in str(caught.value)
        assert caught.value.__context__ is None
        assert str(path) in str(caught.value) or "OTEL_CONFIG_FILE: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("disabled: true\ndisabled: false\n", " line 3 holds a key that is there already"),
        ("tracer_provider: {sampler: always_off}\n", ": tracer_provider.sampler is not a mapping"),
        (
            "tracer_provider: {processors: [{batch: {max_queue_size: 9, max_export_batch_size: 10,"
            " exporter: {console: }}}]}\n",
            ": tracer_provider.processors[0].batch.max_export_batch_size is above max_queue_size, 9",
        ),
    ],
)
def test_a_mistake_is_named_once_and_where_it_is(
    configure: Callable[[str], Path], text: str, problem: str
) -> None:
    """In the words of the file, not in those of settings that nobody wrote."""
    configure(f'file_format: "1.0"\n{text}')
    with pytest.raises(SettingsError) as raised:
        ObservabilitySettings()
    assert str(raised.value).count("OTEL_CONFIG_FILE: ") == 1
    assert f"{problem}." in str(raised.value)


def test_attributes_and_headers_of_early_formats(configure: Callable[[str], Path]) -> None:
    """Mappings, where later formats have lists."""
    configure(
        """
file_format: "0.1"
resource: {attributes: {service.name: shop, zone: 2}}
tracer_provider:
  processors: [{batch: {exporter: {otlp: {protocol: http/protobuf, headers: {x-key: k}}}}}]
"""
    )
    settings = ObservabilitySettings()
    entry: Any = settings.exporters["otlp"]
    assert (settings.service_name, settings.resource_attributes["zone"]) == ("shop", "2")
    assert entry.headers["x-key"].get_secret_value() == "k"


def test_propagators_of_early_formats(configure: Callable[[str], Path]) -> None:
    """Names, where later formats have mappings."""
    configure('file_format: "0.3"\npropagator: {composite: [tracecontext, baggage, b3]}\n')
    assert ObservabilitySettings().propagators == ("tracecontext", "baggage", "b3")


def test_a_file_that_is_a_list(configure: Callable[[str], Path]) -> None:
    """It is called the file."""
    configure("- a\n")
    with pytest.raises(SettingsError, match="OTEL_CONFIG_FILE: the file is not a mapping"):
        ObservabilitySettings()


def test_a_file_that_is_not_there_stops_the_start(set_them: SetThem, tmp_path: Path) -> None:
    """A configuration that was asked for is not left out silently."""
    set_them(OTEL_EXPERIMENTAL_CONFIG_FILE=str(tmp_path / "none.yaml"))
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read: No such file"):
        ObservabilitySettings()


def test_the_usual_answers_to_parents_are_no_part_that_is_missing(
    configure: Callable[[str], Path], recwarn: pytest.WarningsRecorder
) -> None:
    """As OpenTelemetry's templates spell them out; any other is named."""
    usual = """
      remote_parent_sampled: {always_on: }
      remote_parent_not_sampled: {always_off: {}}
      local_parent_sampled: {always_on: }
      local_parent_not_sampled: {always_off: }
"""
    sampler = "tracer_provider:\n  sampler:\n    parent_based:\n      root: {always_on: }"
    configure(body(f"{sampler}{usual}"))
    assert ObservabilitySettings().sampling_parent_based
    assert [str(each.message) for each in recwarn] == []
    configure(body(f"{sampler}{usual.replace('always_off: {}', 'always_on: ')}"))
    with pytest.warns(SettingsWarning, match="remote_parent_not_sampled is not supported: a run that conti"):
        ObservabilitySettings()


def test_certificates_of_release_candidates_of_the_format(configure: Callable[[str], Path]) -> None:
    """Their names within `tls` were those that the variables have."""
    tls = "{certificate_file: /ca.pem, client_key_file: /k.pem, client_certificate_file: /c.pem}"
    exporter = f"{{otlp_http: {{endpoint: 'https://a/v1/traces', tls: {tls}}}}}"
    configure(body(f"tracer_provider: {{processors: [{{batch: {{exporter: {exporter}}}}}]}}"))
    otlp: Any = ObservabilitySettings().exporters["otlp"]
    assert [str(path) for path in (otlp.ca_file, otlp.client_certificate, otlp.client_key)] == [
        "/ca.pem",
        "/c.pem",
        "/k.pem",
    ]


def test_a_blank_name_of_a_file_is_none(set_them: SetThem) -> None:
    """As an empty one is: a template without a value leaves a space behind."""
    set_them(OTEL_CONFIG_FILE=" ", OTEL_SERVICE_NAME="shop")
    assert ObservabilitySettings().service_name == "shop"


class TestSubstitution:
    """https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution"""

    VALUES: ClassVar = {
        "STRING": "value",
        "EMPTY": "",
        "NUMBER": "7",
        "REF": "${STRING}",
        "YAML": "a: b\nc: d",
    }

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("${STRING}", "value"),
            ("${env:STRING}", "value"),
            ("a ${STRING} b ${NUMBER}", "a value b 7"),
            ("${UNSET}", ""),
            ("${UNSET:-fall back}", "fall back"),
            ("${EMPTY:-fall}", "fall"),
            ("${STRING:-no}", "value"),
            ("$${STRING}", "${STRING}"),
            ("$$${STRING}", "$value"),
            ("$$$${STRING}", "$${STRING}"),
            ("$STRING", "$STRING"),
            ("${REF}", "${STRING}"),
            ("a $ b", "a $ b"),
        ],
    )
    def test_as_the_specification_has_it(self, text: str, expected: str) -> None:
        """References, defaults, escapes; what is substituted is not searched again."""
        assert substituted(text, self.VALUES.get) == expected

    @pytest.mark.parametrize("text", ["${}", "${1A}", "${A-B}", "${A", "${env:}", "${sys:A}", "${A:default}"])
    def test_a_malformed_reference_is_an_error(self, text: str) -> None:
        """And not text."""
        with pytest.raises(ValueError, match="holds a reference"):
            substituted(text, self.VALUES.get)

    @given(st.text())
    def test_any_text_is_substituted_or_refused(self, text: str) -> None:
        """Nothing else comes of it."""
        try:
            assert isinstance(substituted(text, self.VALUES.get), str)
        except ValueError:
            assert "${" in text

    def test_a_value_is_typed_after_it_was_put_in(
        self, configure: Callable[[str], Path], set_them: SetThem
    ) -> None:
        """A plain one becomes a number; a quoted one stays text; none adds to the structure."""
        set_them(NUMBER="7", YAML="a: b\nc: d", FLAG="true")
        configure(
            body(
                "disabled: ${FLAG}\n"
                "tracer_provider:\n  limits:\n    event_count_limit: ${NUMBER}\n"
                'resource: {attributes: [{name: quoted, value: "${NUMBER}"}, {name: yaml, value: "${YAML}"}]}\n'
            )
        )
        settings = ObservabilitySettings()
        assert (settings.enabled, settings.event_count_limit) == (False, 7)
        assert settings.resource_attributes == {"quoted": "7", "yaml": "a: b\nc: d"}

    def test_words_of_older_yaml_are_text(self, configure: Callable[[str], Path]) -> None:
        """The specification asks for YAML 1.2's core schema."""
        configure(
            body(
                "resource: {attributes: [{name: a, value: on}, {name: b, value: no}, {name: c, value: 1:30}]}"
            )
        )
        assert ObservabilitySettings().resource_attributes == {"a": "on", "b": "no", "c": "1:30"}

    @pytest.mark.parametrize(
        "key", ["01234567", "0123456789", "0o17", "0x1F", "1e-1", "1.10", "-0", "+5", "1_000"]
    )
    def test_a_key_that_looks_like_a_number_is_sent_as_it_is_written(
        self, configure: Callable[[str], Path], set_them: SetThem, key: str
    ) -> None:
        """In headers and in attributes, which are text unless the file says otherwise."""
        set_them(KEY=key)
        configure(
            body(
                "resource:\n  attributes:\n    - name: version\n      value: ${KEY}\n"
                "tracer_provider:\n  processors:\n    - batch:\n        exporter:\n          otlp_http:\n"
                "            headers:\n              - name: api-key\n                value: ${KEY}\n"
            )
        )
        settings = ObservabilitySettings()
        entry: Any = settings.exporters["otlp"]
        assert entry.headers["api-key"].get_secret_value() == key
        assert settings.resource_attributes["version"] == key

    def test_numbers_are_those_of_the_core_schema(self, configure: Callable[[str], Path]) -> None:
        """Zeros before them change nothing, and neither does an exponent."""
        configure(
            body(
                "tracer_provider:\n  limits: {event_count_limit: 010, link_count_limit: 0o10, "
                "attribute_count_limit: 0x10}\n"
                "  sampler: {trace_id_ratio_based: {ratio: 25e-2}}\n"
                "resource: {attributes: [{name: n, value: 010, type: int}, {name: x, value: .5, type: double}, "
                "{name: big, value: -.INF, type: double}]}\n"
            )
        )
        settings = ObservabilitySettings()
        assert (settings.event_count_limit, settings.link_count_limit) == (10, 8)
        assert (settings.attribute_count_limit, settings.sampling_ratio) == (16, 0.25)
        attributes = settings.resource_attributes
        assert attributes == {"n": 10, "x": 0.5, "big": float("-inf")}
        assert {type(value) for value in attributes.values()} == {int, float}

    @pytest.mark.parametrize(
        "value", ["!!int s3cr3t", "!!float s3cr3t", "!!bool s3cr3t", "!!timestamp s3cr3t"]
    )
    def test_a_value_of_another_type_than_its_tag_is_not_shown(
        self, configure: Callable[[str], Path], value: str
    ) -> None:
        configure(body(f"resource: {{attributes: [{{name: a, value: {value}}}]}}"))
        with pytest.raises(SettingsError) as caught:
            ObservabilitySettings()
        assert "the type that its tag names" in str(caught.value)
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
