"""Contract of the standard variables beyond OTLP's own: which exporters, headers, detectors; and the makers' own."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.builders import build_exporters
from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.logs import get_logger
from nat_observability.resource import DETECTORS, ResourceValue, detected
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.misspelt_variables import unused_hints
from nat_observability.settings.standard_variables.makers import IGNORED, MAKER_VARIABLES
from nat_observability.version import __version__

SetThem = Callable[..., None]
OURS = "NAT_OBSERVABILITY_"


def types() -> dict[str, str]:
    """The exporters that there are, by name, with their types."""
    return {name: entry.type for name, entry in ObservabilitySettings().exporters.items()}


def test_variables_of_other_signals_make_no_exporter_and_are_no_mistakes(set_them: SetThem) -> None:
    """However similar their names are to those about spans; nor does one that OpenTelemetry does not have."""
    set_them(
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_LOGS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://m",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="a=b",
        OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT="http://p",
        OTEL_EXPORTER_OTLP_EXPERIMENTAL_RETRY_ENABLED="true",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert types() == {}
        assert set(ObservabilitySettings(exporters={"a": {"type": "memory"}}).exporters) == {"a"}
    assert unused_hints(ObservabilitySettings) == []


class TestTracesExporter:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("otlp", {"otlp": "otlp"}),
            ("console", {"console": "console"}),
            (" OTLP , console ", {"otlp": "otlp", "console": "console"}),
            ("none", {}),
            ("nat_observability", {}),
            ("otlp_proto_http,otlp_proto_grpc", {"otlp_proto_http": "otlp", "otlp_proto_grpc": "otlp"}),
        ],
    )
    def test_it_names_exporters(self, set_them: SetThem, value: str, expected: dict[str, str]) -> None:
        """One or several, or none; our own name is the SDK's way to us, and no exporter of ours."""
        set_them(OTEL_TRACES_EXPORTER=value)
        assert types() == expected

    @pytest.mark.parametrize("name", ["ENDPOINT", "TRACES_ENDPOINT", "HEADERS", "PROTOCOL"])
    def test_those_of_otlp_alone_are_enough(self, set_them: SetThem, name: str) -> None:
        """The specification's default is otlp; here it needs one word about it."""
        value = {"HEADERS": "a=b", "PROTOCOL": "grpc"}.get(name, "http://collector:4318")
        set_them(**{f"OTEL_EXPORTER_OTLP_{name}": value})
        assert types() == {"otlp": "otlp"}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("nat_observability", {"otlp": "otlp"}),
            ("nat_observability,console", {"otlp": "otlp"}),
            ("otlp,nat_observability", {}),
            ("zipkin,nat_observability", {"otlp": "otlp"}),
        ],
    )
    def test_what_is_named_beside_ours_is_the_sdk_s(
        self, set_them: SetThem, value: str, expected: dict[str, str]
    ) -> None:
        """It sends its spans there itself: from here they would come a second time."""
        set_them(OTEL_TRACES_EXPORTER=value, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318")
        assert types() == expected

    @pytest.mark.filterwarnings("ignore::nat_observability.errors.SettingsWarning")
    @pytest.mark.parametrize("name", ["ENDPOINT", "TRACES_ENDPOINT"])
    def test_headers_for_an_address_that_is_not_valid_go_nowhere(self, set_them: SetThem, name: str) -> None:
        """The default address is not the one that they were for."""
        set_them(
            **{f"OTEL_EXPORTER_OTLP_{name}": "collector:4318"}, OTEL_EXPORTER_OTLP_HEADERS="authorization=k"
        )
        entry: Any = ObservabilitySettings().exporters["otlp"]
        assert (entry.endpoint, entry.headers) == ("http://localhost:4318", {})

    def test_those_of_other_signals_are_not(self, set_them: SetThem) -> None:
        """An application that sends its metrics has not asked for spans."""
        set_them(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://a", OTEL_EXPORTER_OTLP_LOGS_HEADERS="a=b")
        assert types() == {}

    def test_ours_win_as_a_whole(self, set_them: SetThem) -> None:
        """With an exporter of ours, or an explicit empty dictionary, the variable makes none."""
        set_them(OTEL_TRACES_EXPORTER="otlp,console", OTEL_EXPORTER_OTLP_ENDPOINT="http://a")
        assert ObservabilitySettings(exporters={}).exporters == {}
        set_them(**{f"{OURS}EXPORTERS__MAIN__TYPE": "memory"})
        assert types() == {"main": "memory"}

    def test_an_unknown_name_is_warned_about_and_not_shown(self, set_them: SetThem) -> None:
        """As is a none beside others; the known ones hold."""
        set_them(OTEL_TRACES_EXPORTER="zipkin,console,s3cr3t,none")
        with pytest.warns(SettingsWarning) as caught:
            assert types() == {"console": "console"}
        texts = [str(each.message) for each in caught]
        assert texts == [
            "OTEL_TRACES_EXPORTER holds none beside other names. It is ignored.",
            "OTEL_TRACES_EXPORTER holds a name that this package does not have; supported: otlp, console, none. "
            "It is ignored.",
        ]

    def test_the_console_is_the_standard_output(self, set_them: SetThem) -> None:
        """As the specification of that exporter has it."""
        set_them(OTEL_TRACES_EXPORTER="console")
        assert ObservabilitySettings().exporters["console"].stream == "stdout"  # type: ignore[union-attr]


class TestOfTheProcess:
    def test_propagators(self, set_them: SetThem) -> None:
        """Known ones hold, in their order; a deprecated one is warned about; ours win."""
        set_them(OTEL_PROPAGATORS="b3multi, tracecontext,jaeger")
        with pytest.warns(SettingsWarning, match="OTEL_PROPAGATORS holds a name that this package does not"):
            assert ObservabilitySettings().propagators == ("b3multi", "tracecontext")
        set_them(OTEL_PROPAGATORS="none")
        assert ObservabilitySettings().propagators == ("none",)
        set_them(**{f"{OURS}PROPAGATORS": "b3"})
        assert ObservabilitySettings().propagators == ("b3",)

    @pytest.mark.filterwarnings("ignore::nat_observability.errors.SettingsWarning")
    @pytest.mark.parametrize("text", ["jaeger", "xray,ottrace", ",", "  "])
    def test_propagators_of_which_none_is_known_are_as_if_unset(self, set_them: SetThem, text: str) -> None:
        """Every trace would end here otherwise."""
        set_them(OTEL_PROPAGATORS=text)
        assert ObservabilitySettings().propagators == ("tracecontext", "baggage")

    @pytest.mark.parametrize(
        ("text", "level"), [("WARN", "warning"), ("debug", "debug"), ("none", "none"), ("Error", "error")]
    )
    def test_log_level(self, set_them: SetThem, text: str, level: str) -> None:
        """The specification's words for ours."""
        set_them(OTEL_LOG_LEVEL=text)
        assert ObservabilitySettings().log_level == level

    def test_an_unknown_log_level_is_ignored(self, set_them: SetThem) -> None:
        """With a warning, and without its text."""
        set_them(OTEL_LOG_LEVEL="s3cr3t")
        with pytest.warns(SettingsWarning, match="OTEL_LOG_LEVEL is none of debug, info, warn, error, none"):
            assert ObservabilitySettings().log_level is None

    def test_lines_below_the_level_are_left_out(self) -> None:
        """Of this package alone, whatever the application's logging lets through; without it, nothing is."""
        for level, events in (("error", ["b"]), ("none", []), (None, ["a", "b"])):
            build_exporters(ObservabilitySettings(log_level=level, exporters={}))
            with capture_logs() as logs:
                get_logger().warning("a")
                get_logger().error("b")
            assert [each["event"] for each in logs] == events

    @pytest.mark.parametrize(
        ("text", "captured"),
        [
            ("true", True),
            ("SPAN_ONLY", True),
            ("span_and_event", True),
            ("false", False),
            ("NO_CONTENT", False),
            ("EVENT_ONLY", False),
            ("0", False),
            ("1", True),
        ],
    )
    def test_message_content(self, set_them: SetThem, text: str, captured: bool) -> None:
        """What is not to stand on spans does not leave: inputs and outputs alike. Ours win."""
        set_them(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=text)
        settings = ObservabilitySettings(exporters={"main": {"type": "memory"}})
        assert (settings.capture_inputs, settings.capture_outputs) == (captured, captured)
        assert settings.exporters["main"].capture_inputs is captured
        set_them(**{f"{OURS}CAPTURE_INPUTS": "true"})
        assert ObservabilitySettings().capture_inputs

    def test_detectors_by_the_names_of_the_sdk(self, set_them: SetThem) -> None:
        """`otel` is always there, `service` is the instance."""
        set_them(OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="otel,os,service")
        assert ObservabilitySettings().resource_detectors == ("os", "service_instance")


class TestResource:
    def test_every_process_says_what_recorded_it(self) -> None:
        """`telemetry.sdk.*`, under our own name as the conventions want it."""
        resource = ObservabilitySettings().resource
        assert resource["telemetry.sdk.name"] == "nat_observability"
        assert resource["telemetry.sdk.language"] == "python"
        assert resource["telemetry.sdk.version"] == __version__

    def test_each_detector_finds_its_attributes(self) -> None:
        """All of them, and only names of the conventions; neither arguments nor the environment."""
        resource = ObservabilitySettings(resource_detectors=("*",)).resource
        assert {"process.pid", "process.runtime.name", "host.name", "os.type"} <= set(resource)
        assert "process.command_args" not in resource
        assert re.fullmatch("[0-9a-f-]{36}", str(resource["service.instance.id"]))
        assert (resource["process.pid"], resource["process.parent_pid"]) == (os.getpid(), os.getppid())
        again = detected(["service_instance"])["service.instance.id"]
        assert resource["service.instance.id"] == again

    def test_what_is_configured_wins_over_what_is_found(self) -> None:
        """A host's name of our own stays."""
        settings = ObservabilitySettings(
            resource_detectors=DETECTORS, resource_attributes={"host.name": "mine"}
        )
        assert settings.resource["host.name"] == "mine"

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("cgroup", "12:cpu:/docker/{id}\n"),
            ("cgroup", "1:name=systemd:/kubepods.slice/cri-containerd-{id}.scope\n"),
            (
                "mountinfo",
                "1 2 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/x rw\n",
            ),
        ],
    )
    def test_a_container_s_id(self, tmp_path: Path, file: str, text: str) -> None:
        """By both versions of control groups."""
        proc = tmp_path / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text("0::/\n")
        (proc / "mountinfo").write_text("1 2 8:1 / / rw\n")
        (proc / file).write_text(text.format(id="ab" * 32))
        assert detected(["container"], tmp_path)["container.id"] == "ab" * 32

    def test_what_cannot_be_found_is_left_out(self, tmp_path: Path) -> None:
        """A file system without any of it."""
        found = detected(DETECTORS, tmp_path)
        assert "container.id" not in found
        assert "host.id" not in found


class TestMakers:
    def test_they_stand_in_for_ours(self, set_them: SetThem) -> None:
        """Address, keys, environment, sampling, sizes."""
        set_them(
            LANGFUSE_HOST="https://lf.example",
            LANGFUSE_PUBLIC_KEY="pk",
            LANGFUSE_SECRET_KEY="sk",
            LANGFUSE_SAMPLE_RATE="0.5",
            LANGFUSE_TRACING_ENVIRONMENT="staging",
            LANGFUSE_FLUSH_INTERVAL="2.5",
        )
        entry: Any = ObservabilitySettings(exporters={"main": {"type": "langfuse"}}).exporters["main"]
        assert (entry.host, entry.public_key.get_secret_value()) == ("https://lf.example", "pk")
        assert (entry.sampling_ratio, entry.environment, entry.batch_age) == (0.5, "staging", 2.5)

    def test_ours_win(self, set_them: SetThem) -> None:
        """Each setting for itself."""
        set_them(PHOENIX_COLLECTOR_ENDPOINT="http://theirs", PHOENIX_PROJECT_NAME="theirs")
        main = {"type": "phoenix", "project": "ours"}
        entry: Any = ObservabilitySettings(exporters={"main": main}).exporters["main"]
        assert (entry.endpoint, entry.project) == ("http://theirs", "ours")

    def test_a_key_does_not_go_to_an_address_of_ours(self, set_them: SetThem) -> None:
        """It belongs to the address of the variables."""
        set_them(LANGSMITH_API_KEY="s3cr3t", LANGSMITH_PROJECT="shop")
        with pytest.raises(SettingsError, match="API_KEY: set it too"):
            ObservabilitySettings(exporters={"main": {"type": "langsmith", "endpoint": "http://mine"}})

    @pytest.mark.parametrize(
        ("kind", "address", "setting", "name"),
        [
            ("langsmith", "endpoint", "API_KEY", "LANGSMITH_API_KEY"),
            ("honeycomb", "endpoint", "API_KEY", "HONEYCOMB_API_KEY"),
            ("weave", "endpoint", "API_KEY", "WANDB_API_KEY"),
            ("langfuse", "host", "PUBLIC_KEY", "LANGFUSE_PUBLIC_KEY"),
        ],
    )
    def test_what_is_missing_beside_an_address_of_ours_is_explained(
        self, set_them: SetThem, kind: str, address: str, setting: str, name: str
    ) -> None:
        """The key is there, in a variable that does not count: the error names it, and not its value."""
        set_them(**{name: "s3cr3t"})
        with pytest.raises(SettingsError) as caught:
            ObservabilitySettings(exporters={"main": {"type": kind, address: "http://mine"}})
        (line,) = [each for each in caught.value.problems if setting in each]
        assert line.endswith(f"({name} is for the maker's own address, and not for one of ours).")
        assert "s3cr3t" not in str(caught.value)

    @pytest.mark.parametrize(
        ("kind", "name", "address", "setting"),
        [
            ("phoenix", "PHOENIX_API_KEY", "PHOENIX_COLLECTOR_ENDPOINT", "api_key"),
            ("mlflow", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI", "api_key"),
            ("galileo", "GALILEO_LOG_STREAM", "GALILEO_API_URL", "account"),
        ],
    )
    def test_a_key_that_goes_nowhere_is_named(
        self, set_them: SetThem, kind: str, name: str, address: str, setting: str
    ) -> None:
        """Nothing is said if the variables name its address, or the exporter has a key of its own."""
        main = {"type": kind, "endpoint": "http://mine", "project": "7"}
        if setting != "api_key":
            main["api_key"] = "ours"
        set_them(**{name: "s3cr3t"})
        with pytest.warns(SettingsWarning) as caught:
            ObservabilitySettings(exporters={"main": main})
        assert [str(each.message) for each in caught] == [
            f"{name} goes to the address of {address} alone: set {setting.upper()} beside the address. "
            "It is ignored."
        ]
        entry: Any = ObservabilitySettings(exporters={"main": {**main, setting: "ours"}}).exporters["main"]
        assert entry.endpoint == "http://mine"
        set_them(**{address: "http://theirs"})
        entry = ObservabilitySettings(exporters={"main": main}).exporters["main"]
        assert (entry.endpoint, getattr(entry, setting)) == ("http://mine", None)

    def test_they_are_for_exporters_of_their_type_alone(self, set_them: SetThem) -> None:
        """Another exporter is not changed, and nothing is said of a variable that is wrong."""
        set_them(PHOENIX_COLLECTOR_ENDPOINT="nonsense", MLFLOW_TRACKING_URI="databricks")
        assert types() == {}
        entry: Any = ObservabilitySettings(exporters={"main": {"type": "otlp"}}).exporters["main"]
        assert entry.endpoint == "http://localhost:4318"

    def test_one_that_is_not_valid_is_warned_about_without_its_value(self, set_them: SetThem) -> None:
        """It is as if it were unset."""
        set_them(MLFLOW_TRACKING_URI="sqlite:///s3cr3t.db", MLFLOW_EXPERIMENT_ID="7")
        with pytest.warns(SettingsWarning) as caught:
            entry: Any = ObservabilitySettings(exporters={"main": {"type": "mlflow"}}).exporters["main"]
        assert (entry.endpoint, entry.project) == (None, "7")
        (warning,) = caught
        assert str(warning.message).startswith("MLFLOW_TRACKING_URI does not begin with 'http://'")
        assert "s3cr3t" not in str(warning.message)

    @pytest.mark.parametrize(
        ("variables", "endpoint"),
        [
            ({}, None),
            ({"WANDB_BASE_URL": "https://api.wandb.ai/"}, None),
            ({"WANDB_BASE_URL": "https://wandb.example/"}, "https://wandb.example/traces"),
            ({"WF_TRACE_SERVER_URL": "https://traces.example"}, "https://traces.example"),
            (
                {"WF_TRACE_SERVER_URL": "https://traces.example", "WANDB_BASE_URL": "https://wandb.example"},
                "https://traces.example",
            ),
        ],
    )
    def test_a_server_of_weave_of_ones_own(
        self, set_them: SetThem, variables: dict[str, str], endpoint: str | None
    ) -> None:
        """The key goes there, and not to the maker's."""
        set_them(WANDB_API_KEY="k", WANDB_ENTITY="e", WANDB_PROJECT="p", **variables)
        entry: Any = ObservabilitySettings(exporters={"main": {"type": "weave"}}).exporters["main"]
        assert (entry.endpoint, entry.api_key.get_secret_value()) == (endpoint, "k")

    @pytest.mark.parametrize(
        ("kind", "variable", "value"),
        [
            ("langfuse", "LANGFUSE_HOST", "langfuse.example:3000"),
            ("langsmith", "LANGSMITH_ENDPOINT", "smith.example"),
            ("honeycomb", "HONEYCOMB_API_ENDPOINT", "ftp://x"),
            ("weave", "WF_TRACE_SERVER_URL", "weave.example"),
            ("weave", "WANDB_BASE_URL", "weave.example"),
            ("datadog", "DD_SITE", "https://datadoghq.eu"),
            ("datadog", "DD_SITE", "datadoghq.eu/x"),
        ],
    )
    def test_an_address_that_is_not_valid_does_not_send_elsewhere(
        self, set_them: SetThem, kind: str, variable: str, value: str
    ) -> None:
        """The maker's own service, with the keys for one's own server, is not what was meant."""
        set_them(**{variable: value}, LANGFUSE_PUBLIC_KEY="p", LANGFUSE_SECRET_KEY="s")
        set_them(LANGSMITH_API_KEY="k", HONEYCOMB_API_KEY="k", DD_API_KEY="k")
        set_them(WANDB_API_KEY="k", WANDB_ENTITY="e", WANDB_PROJECT="p")
        with pytest.raises(SettingsError, match=rf"{variable} .*: correct it, or unset it\.") as raised:
            ObservabilitySettings(exporters={"main": {"type": kind}})
        assert value not in str(raised.value)

    @pytest.mark.filterwarnings("ignore::nat_observability.errors.SettingsWarning")
    def test_a_key_for_an_address_that_is_not_valid_goes_nowhere(self, set_them: SetThem) -> None:
        """Also of a back end that runs beside the application by default."""
        set_them(PHOENIX_COLLECTOR_ENDPOINT="phoenix:6006", PHOENIX_API_KEY="s3cr3t")
        entry: Any = ObservabilitySettings(exporters={"main": {"type": "phoenix"}}).exporters["main"]
        assert (entry.endpoint, entry.api_key) == ("http://localhost:6006", None)

    def test_a_batch_that_the_queue_cannot_hold_is_ignored(self, set_them: SetThem) -> None:
        """As of OpenTelemetry's variables: nothing stops the start over a setting that is not ours."""
        set_them(LANGFUSE_PUBLIC_KEY="p", LANGFUSE_SECRET_KEY="s", LANGFUSE_FLUSH_AT="100")
        main = {"type": "langfuse", "queue_items": 50}
        with pytest.warns(SettingsWarning, match="LANGFUSE_FLUSH_AT is above what the queue holds, 50"):
            entry: Any = ObservabilitySettings(exporters={"main": main}).exporters["main"]
        assert entry.batch_items == 50

    def test_a_site_is_an_address(self, set_them: SetThem) -> None:
        """Datadog's exporters know a site."""
        set_them(DD_SITE="datadoghq.eu", DD_API_KEY="k")
        entry: Any = ObservabilitySettings(exporters={"main": {"type": "datadog"}}).exporters["main"]
        assert entry.endpoint == "https://otlp.datadoghq.eu"

    @pytest.mark.parametrize("kind", sorted(IGNORED))
    def test_those_that_are_ignored_say_what_to_do(self, set_them: SetThem, kind: str) -> None:
        """Once, if there is an exporter of that type."""
        given = {"public_key": "p", "secret_key": "s"} if kind == "langfuse" else {"project": "7"}
        key = {"api_key": "k"} if kind == "langsmith" else {}
        set_them(**dict.fromkeys(IGNORED[kind], "x"))
        with pytest.warns(SettingsWarning) as caught:
            ObservabilitySettings(exporters={"main": {"type": kind, **given, **key}})
        texts = [str(each.message) for each in caught]
        assert texts == [
            f"{name} is known and not used: {cure}. It is ignored." for name, cure in IGNORED[kind].items()
        ]


PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
ROW = re.compile(
    r"^\| (?P<names>`[A-Z].*?) \| (?P<what>honoured|ignored with a word|not applicable)\b", re.MULTILINE
)


def table() -> dict[str, str]:
    """The table of standard variables on the page: what becomes of each."""
    found: dict[str, str] = {}
    for row in ROW.finditer(PAGE.read_text("utf-8")):
        for name in re.findall(r"`([A-Z0-9_]+)`", row["names"]):
            assert name not in found, f"{name} is on the page twice"
            found[name] = row["what"]
    return found


# One value each that changes something, for exporters of these types.
EXAMPLES = {
    "OTEL_SDK_DISABLED": "true",
    "OTEL_SERVICE_NAME": "shop",
    "OTEL_RESOURCE_ATTRIBUTES": "a=b",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "os",
    "OTEL_LOG_LEVEL": "error",
    "OTEL_PROPAGATORS": "b3",
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "false",
    "OTEL_BSP_SCHEDULE_DELAY": "7",
    "OTEL_BSP_EXPORT_TIMEOUT": "7",
    "OTEL_BSP_MAX_QUEUE_SIZE": "700",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7",
    "LANGSMITH_HIDE_INPUTS": "true",
    "LANGSMITH_HIDE_OUTPUTS": "true",
    "LANGCHAIN_HIDE_INPUTS": "true",
    "LANGCHAIN_HIDE_OUTPUTS": "true",
}
# These have tests of their own.
ELSEWHERE = ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE", "OTEL_TRACES_SAMPLER_ARG")


def test_the_table_has_each_maker_s_variable() -> None:
    """Of those that the code knows, none is missing, and none says something else."""
    page = table()
    honoured = {name for rows in MAKER_VARIABLES.values() for row in rows for name in row.names} | {"DD_SITE"}
    ignored = {name for names in IGNORED.values() for name in names}
    assert {name: page.get(name) for name in honoured} == dict.fromkeys(honoured, "honoured")
    assert {name: page.get(name) for name in ignored} == dict.fromkeys(ignored, "ignored with a word")


def test_each_variable_of_opentelemetry_does_what_the_table_says(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """An honoured one changes the settings, one that is ignored with a word warns, any other does neither."""
    main = {"type": "otlp", "endpoint": "https://a", "protocol": "http"}
    names = {name: what for name, what in table().items() if name.startswith("OTEL_")}
    assert len(names) > 60
    for name, what in names.items():
        if name.startswith(
            ("OTEL_EXPORTER_OTLP", "OTEL_CONFIG", "OTEL_EXPERIMENTAL_CONFIG", "OTEL_TRACES_SAMPLER_ARG")
        ):
            continue  # tests of their own
        exporters = None if name == "OTEL_TRACES_EXPORTER" else {"main": main}

        def current(exporters: Any = exporters) -> tuple[str, dict[str, ResourceValue]]:
            settings = (
                ObservabilitySettings() if exporters is None else ObservabilitySettings(exporters=exporters)
            )
            return repr(settings.model_dump()), settings.resource

        before = current()
        recwarn.clear()
        with monkeypatch.context() as patch:
            patch.setenv(name, EXAMPLES.get(name, "7"))
            after = current()
        warned = [each for each in recwarn.list if name in str(each.message)]
        assert (before != after) == (what == "honoured"), name
        assert bool(warned) == (what == "ignored with a word"), name
