"""Contract of the settings of OTLP exporters: headers, addresses, standard variables, and that secrets stay secret."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.settings import (
    LangfuseExporterSettings,
    ObservabilitySettings,
    OtlpExporterSettings,
    PhoenixExporterSettings,
)
from nat_observability.settings.example_env import setting_rows
from nat_observability.settings.standard_variables.opentelemetry import parse_headers
from nat_observability.validation import is_header_value, url_problem

PREFIX = "NAT_OBSERVABILITY_EXPORTERS__MAIN__"
OTEL = "OTEL_EXPORTER_OTLP_"
PAIRS = "name=value pairs with commas between them, percent-encoded where they hold a comma or a percent sign"

SetMain = Callable[..., None]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any of our variables and the standard ones."""
    for name in os.environ:
        if name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def set_main(monkeypatch: pytest.MonkeyPatch) -> SetMain:
    """Sets variables of the exporter MAIN, of type otlp by default."""

    def set_them(*, type: str = "otlp", **variables: str) -> None:  # noqa: A002
        for name, value in {"TYPE": type, **variables}.items():
            monkeypatch.setenv(PREFIX + name, value)

    return set_them


@pytest.fixture
def set_otel(monkeypatch: pytest.MonkeyPatch) -> SetMain:
    """Sets standard variables, named without OTEL_EXPORTER_OTLP_."""

    def set_them(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(OTEL + name, value)

    return set_them


def otlp(**arguments: Any) -> OtlpExporterSettings:
    """The settings of MAIN as they are now."""
    main = ObservabilitySettings(**arguments).exporters["main"]
    assert isinstance(main, OtlpExporterSettings)
    return main


def headers(main: OtlpExporterSettings) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in main.headers.items()}


def problems(**arguments: Any) -> tuple[str, ...]:
    """What a failing construction says, a line each."""
    with pytest.raises(SettingsError) as caught:
        ObservabilitySettings(**arguments)
    assert caught.value.__context__ is None
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    return caught.value.problems


class TestDefaults:
    def test_over_http(self, set_main: SetMain) -> None:
        """A type is enough: a collector on this machine, over HTTP, compressed, four batches at a time."""
        set_main()
        main = otlp()
        assert (main.protocol, main.endpoint, main.compression) == ("http", "http://localhost:4318", "gzip")
        assert (main.timeout, main.batches_in_flight, main.record) == (10.0, 4, "spans")

    def test_over_grpc(self, set_main: SetMain) -> None:
        """With gRPC the port is its own, and nothing is compressed, which gRPC would do at the application's cost."""
        set_main(PROTOCOL="grpc")
        assert (otlp().endpoint, otlp().compression) == ("http://localhost:4317", "none")

    def test_phoenix_and_langfuse_need_no_more_than_a_key(self, set_main: SetMain) -> None:
        """Phoenix is looked for on this machine, and Langfuse in its cloud."""
        set_main(type="phoenix")
        assert ObservabilitySettings().exporters["main"] == PhoenixExporterSettings(
            endpoint="http://localhost:6006"
        )
        set_main(type="langfuse", PUBLIC_KEY="pk", SECRET_KEY="sk")
        main = ObservabilitySettings().exporters["main"]
        assert isinstance(main, LangfuseExporterSettings)
        assert (main.host, main.batches_in_flight) == ("https://cloud.langfuse.com", 4)
        assert (main.public_key.get_secret_value(), main.secret_key.get_secret_value()) == ("pk", "sk")

    def test_langfuse_without_keys_names_both(self, set_main: SetMain) -> None:
        """Everything that is missing is reported."""
        set_main(type="langfuse")
        assert problems() == (
            f"{PREFIX}PUBLIC_KEY is not set; allowed: text that is not empty, such as pk-lf-0123.",
            f"{PREFIX}SECRET_KEY is not set; allowed: text that is not empty, such as sk-lf-0123.",
        )

    @pytest.mark.parametrize("kind", ["otlp", "phoenix", "langfuse"])
    def test_they_do_not_record_steps(self, set_main: SetMain, kind: str) -> None:
        """OTLP carries spans; asking for steps says so."""
        set_main(type=kind, RECORD="steps", PUBLIC_KEY="pk", SECRET_KEY="sk")
        (line,) = [line for line in problems() if "RECORD" in line]
        assert (
            line
            == f"{PREFIX}RECORD cannot be steps, which an exporter of type {kind} does not take; allowed: spans."
        )


class TestHeaders:
    def test_as_variables_of_their_own(self, set_main: SetMain) -> None:
        """One variable for each header, its value as it is."""
        set_main(HEADERS__AUTHORIZATION="Bearer a,b=c%", HEADERS__TENANT="1")
        assert headers(otlp()) == {"authorization": "Bearer a,b=c%", "tenant": "1"}

    def test_as_pairs(self, set_main: SetMain) -> None:
        """Pairs with commas between them, percent-encoded; a name may have what no variable's name can."""
        set_main(HEADERS="Authorization=Basic YTpi==, x-api-key=a%2Cb%25")
        assert headers(otlp()) == {"authorization": "Basic YTpi==", "x-api-key": "a,b%"}

    def test_as_a_json_object(self, set_main: SetMain) -> None:
        """An object may be given too."""
        set_main(HEADERS='{"X-Api-Key": "a,b%"}')
        assert headers(otlp()) == {"x-api-key": "a,b%"}

    @pytest.mark.parametrize(
        "form", ["authorization=old,x-tenant=1", '{"authorization": "old", "x-tenant": "1"}']
    )
    @pytest.mark.parametrize("all_first", [True, False])
    def test_a_variable_of_its_own_wins_and_the_others_stay(
        self, set_main: SetMain, form: str, all_first: bool
    ) -> None:
        """A key comes as a variable of its own beside the rest, in any order, and no header is lost."""
        for name in sorted(("HEADERS", "HEADERS__AUTHORIZATION"), reverse=not all_first):
            set_main(**{name: form if name == "HEADERS" else "new"})
        assert headers(otlp()) == {"authorization": "new", "x-tenant": "1"}

    def test_a_key_comes_from_a_file(self, set_main: SetMain, tmp_path: Path) -> None:
        """A file of secrets joins the pairs of the environment; its last line break does not count."""
        (tmp_path / f"{PREFIX}HEADERS__AUTHORIZATION").write_text("Bearer key\n")
        set_main(HEADERS="x-tenant=1")
        assert headers(otlp(secrets_dir=tmp_path)) == {"authorization": "Bearer key", "x-tenant": "1"}

    @pytest.mark.parametrize(
        ("variables", "line"),
        [
            (
                {"HEADERS__AUTHORIZATION": "Bearer s3cr3t\nx: y"},
                "HEADERS__AUTHORIZATION holds a character that no header can, such as a line break; "
                "look for one where the secret ends.",
            ),
            (
                {"HEADERS": "x-key=s3cr3t%0D%0Ax"},
                "HEADERS__X-KEY holds a character that no header can, such as a line break; "
                "look for one where the secret ends.",
            ),
            (
                {"HEADERS": "Bearer s3cr3t"},
                f"HEADERS holds a member that is not key=value; allowed: {PAIRS}.",
            ),
            (
                {"HEADERS": "a=s3cr3t%"},
                f"HEADERS holds a percent sign without two hexadecimal digits; allowed: {PAIRS}.",
            ),
            (
                {"HEADERS": "s3cr3t key=a"},
                "HEADERS holds a name that is not made of letters, digits and hyphens.",
            ),
            ({"HEADERS": '["s3cr3t"]'}, f"HEADERS holds a member that is not key=value; allowed: {PAIRS}."),
            ({"HEADERS": '{"a": ["s3cr3t"]}'}, f"HEADERS__A is not text; allowed: {PAIRS}."),
            (
                {"HEADERS": '{"A": "s3cr3t", "a": "s3cr3t"}'},
                "HEADERS holds two headers whose names differ in case only; allowed: one.",
            ),
            (
                {"HEADERS": "s3cr3t", "HEADERS__A": "s3cr3t"},
                f"HEADERS holds a member that is not key=value; allowed: {PAIRS}.",
            ),
        ],
    )
    def test_a_wrong_one_is_one_line_without_its_value(
        self, set_main: SetMain, variables: dict[str, str], line: str
    ) -> None:
        """The line names the variable, that of the single header if it can, and never what might be a key (G14)."""
        set_main(**variables)
        assert problems() == (PREFIX + line,)

    @given(
        st.dictionaries(st.from_regex(r"[a-z0-9-]+", fullmatch=True), st.text(st.characters(codec="ascii")))
    )
    def test_any_value_can_be_given_or_is_refused(self, given: dict[str, str]) -> None:
        """What a header can hold arrives as it was, and anything else is refused."""
        entry = {"main": {"type": "otlp", "headers": given}}
        if all(map(is_header_value, given.values())):
            assert headers(otlp(exporters=entry)) == given
        else:
            with pytest.raises(SettingsError):
                ObservabilitySettings(exporters=entry)

    @given(st.text())
    def test_any_text_parses_or_is_refused(self, text: str) -> None:
        """Pairs never raise anything but a ValueError that has nothing of them."""
        said = "holds nothing"
        try:
            parse_headers(text)
        except UnicodeError:
            pytest.fail("a Unicode error holds the text")
        except ValueError as error:
            said = str(error)
        assert said.startswith("holds ")


class TestAddresses:
    @pytest.mark.parametrize(
        ("endpoint", "wrong"),
        [
            ("s3cr3t", "does not begin with 'http://' or 'https://'"),
            ("localhost:4318", "does not begin with 'http://' or 'https://'"),
            ("ftp://s3cr3t/", "does not begin with 'http://' or 'https://'"),
            ("http://", "has no valid host and port"),
            ("http://:4318", "has no valid host and port"),
            ("http://s3cr3t:0", "has no valid host and port"),
            ("http://s3cr3t:port", "is not a URL"),
            ("http://s3cr3t:99999", "is not a URL"),
            ("http://[s3cr3t", "is not a URL"),
            ("http://s3cr3t/a b", "has no valid host and port"),
            ("http://s3cr3t/a\nb", "has no valid host and port"),
            ("http://me:s3cr3t@host", "holds credentials, which belong in a header such as authorization"),
        ],
    )
    @pytest.mark.parametrize(
        ("kind", "option", "example"),
        [
            ("otlp", "ENDPOINT", "https://collector.example:4318"),
            ("otlp", "TRACES_ENDPOINT", "https://collector.example/v1/traces"),
            ("phoenix", "ENDPOINT", "https://phoenix.example"),
            ("langfuse", "HOST", "https://us.cloud.langfuse.com"),
        ],
    )
    def test_one_that_is_not_a_url_names_the_variable(
        self, set_main: SetMain, kind: str, option: str, example: str, endpoint: str, wrong: str
    ) -> None:
        """One line says what is wrong and what is allowed, and has nothing of the value."""
        set_main(type=kind, **{option: endpoint})
        lines = [line for line in problems() if "_KEY" not in line]
        assert lines == [f"{PREFIX}{option} {wrong}; allowed: a URL, such as {example}."]

    def test_one_that_is_not_text_is_reported_too(self) -> None:
        """An argument of another type is reported as a variable is."""
        (line,) = problems(exporters={"main": {"type": "otlp", "endpoint": 4318}})
        assert line.startswith(f"{PREFIX}ENDPOINT is not text; allowed: a URL")

    @given(st.text() | st.from_regex(r"https?://[a-z\[\]:@0-9./?#-]*", fullmatch=True))
    def test_any_text_is_judged(self, text: str) -> None:
        """No text makes the check raise."""
        assert url_problem(text) is None or isinstance(url_problem(text), str)

    def test_a_client_key_needs_its_certificate(self, set_main: SetMain) -> None:
        """Both variables are named."""
        set_main(CLIENT_KEY="client.key")
        assert problems() == (f"{PREFIX}CLIENT_KEY needs {PREFIX}CLIENT_CERTIFICATE: set it too.",)


class TestSecrets:
    def test_nothing_shows_them(self, set_main: SetMain, monkeypatch: pytest.MonkeyPatch) -> None:
        """No repr, dump, JSON or listing has a key, a header, or an address that may hold a key (G14)."""
        set_main(HEADERS="x-one=s3cr3t", HEADERS__TWO="s3cr3t", ENDPOINT="https://a/?key=s3cr3t")
        others = {
            "PHOENIX__TYPE": "phoenix",
            "PHOENIX__API_KEY": "s3cr3t",
            "LANGFUSE__TYPE": "langfuse",
            "LANGFUSE__PUBLIC_KEY": "s3cr3t",
            "LANGFUSE__SECRET_KEY": "s3cr3t",
            "LANGFUSE__HOST": "https://a/?s3cr3t",
            "STANDARD__TYPE": "otlp",
        }
        for name, value in others.items():
            monkeypatch.setenv(f"NAT_OBSERVABILITY_EXPORTERS__{name}", value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-three=s3cr3t")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://a/?key=s3cr3t")
        settings = ObservabilitySettings()
        shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
        shown += [str(setting_rows(settings)), str(settings.model_dump(mode="json"))]
        for entry in settings.exporters.values():
            shown += [repr(entry), str(entry), str(entry.model_dump()), entry.model_dump_json()]
        assert not [text for text in shown if "s3cr3t" in text]
        rows = dict(setting_rows(settings))
        assert rows[f"{PREFIX}HEADERS__X-ONE"] == rows[f"{PREFIX}ENDPOINT"] == "*" * 10
        main = settings.exporters["main"]
        assert isinstance(main, OtlpExporterSettings)
        assert headers(main) == {"x-one": "s3cr3t", "two": "s3cr3t"}
        assert main.endpoint == SecretStr("https://a/?key=s3cr3t")
        standard = settings.exporters["standard"]
        assert isinstance(standard, OtlpExporterSettings)
        assert headers(standard) == {"x-three": "s3cr3t"}

    @pytest.mark.parametrize(
        ("kind", "key"), [("phoenix", "API_KEY"), ("langfuse", "PUBLIC_KEY"), ("langfuse", "SECRET_KEY")]
    )
    def test_a_key_with_a_line_break_is_refused(self, set_main: SetMain, kind: str, key: str) -> None:
        """It would be refused by the back end at best; the error names the variable, and has nothing of the key."""
        set_main(type=kind, **{"PUBLIC_KEY": "pk", "SECRET_KEY": "sk"} if kind == "langfuse" else {})
        set_main(type=kind, **{key: "s3cr3t\n"})
        (line,) = problems()
        assert line.startswith(f"{PREFIX}{key} holds a character that no header can, such as a line break")

    def test_an_empty_key_is_refused(self) -> None:
        """An empty argument is not a key; an empty variable is an unset one."""
        (line,) = problems(exporters={"main": {"type": "phoenix", "api_key": ""}})
        assert line == f"{PREFIX}API_KEY is empty; allowed: text that is not empty."

    @pytest.mark.parametrize(("kind", "key"), [("phoenix", "API_KEY"), ("honeycomb", "API_KEY")])
    def test_a_blank_key_is_refused(self, set_main: SetMain, kind: str, key: str) -> None:
        """As a file with a line break alone gives it: no back end takes it."""
        set_main(type=kind, **{key: " \t"})
        (line,) = problems()
        assert line.startswith(f"{PREFIX}{key} is blank; allowed: text that is not empty")

    def test_rows_give_the_settings_back(self, set_main: SetMain, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without secrets, the listing is a set of variables that means the same."""
        set_main(PROTOCOL="grpc", TRACES_ENDPOINT="https://a", CA_FILE="ca.pem", TIMEOUT="3")
        settings = ObservabilitySettings()
        for name, value in setting_rows(settings):
            monkeypatch.setenv(name, value)
        assert ObservabilitySettings() == settings


class TestStandardVariables:
    @pytest.mark.parametrize(
        ("name", "general", "expected", "signal", "wins"),
        [
            ("PROTOCOL", "grpc", ("protocol", "grpc"), "HTTP/protobuf", ("protocol", "http")),
            ("COMPRESSION", "none", ("compression", "none"), "GZIP", ("compression", "gzip")),
            ("TIMEOUT", "2500", ("timeout", 2.5), "0", ("timeout", 2147483.647)),
            (
                "ENDPOINT",
                "http://general:1/base",
                ("endpoint", "http://general:1/base"),
                "http://traces:2",
                ("traces_endpoint", "http://traces:2"),
            ),
            (
                "HEADERS",
                "Authorization=a%20b",
                ("headers", {"authorization": SecretStr("a b")}),
                "x-key=1",
                ("headers", {"x-key": SecretStr("1")}),
            ),
        ],
    )
    def test_one_for_traces_wins_over_one_for_all_signals(
        self,
        set_main: SetMain,
        set_otel: SetMain,
        name: str,
        general: str,
        expected: tuple[str, object],
        signal: str,
        wins: tuple[str, object],
    ) -> None:
        """Both stand in for ours; times are in milliseconds, 0 means no limit, and choices are case-insensitive."""
        set_main()
        set_otel(**{name: general})
        assert getattr(otlp(), expected[0]) == expected[1]
        set_otel(**{f"TRACES_{name}": signal})
        assert getattr(otlp(), wins[0]) == wins[1]

    def test_ours_win(self, set_main: SetMain, set_otel: SetMain) -> None:
        """What our variables or arguments set is not changed by a standard one."""
        set_otel(
            PROTOCOL="grpc", COMPRESSION="none", TIMEOUT="1", TRACES_ENDPOINT="http://otel:1", HEADERS="a=b"
        )
        ours = {"PROTOCOL": "http", "COMPRESSION": "gzip", "TIMEOUT": "7", "HEADERS__KEY": "ours"}
        set_main(**ours, ENDPOINT="http://ours:2")
        main = otlp()
        assert (main.protocol, main.compression, main.timeout) == ("http", "gzip", 7.0)
        assert (main.endpoint, main.traces_endpoint) == ("http://ours:2", None)
        assert headers(main) == {"key": "ours"}
        entry = {"type": "otlp", "endpoint": "http://argument", "timeout": 3}
        other = ObservabilitySettings(exporters={"other": entry}).exporters["other"]
        assert isinstance(other, OtlpExporterSettings)
        assert (other.endpoint, other.timeout, other.protocol) == ("http://argument", 3.0, "grpc")

    def test_headers_of_ours_are_the_only_ones(self, set_main: SetMain, set_otel: SetMain) -> None:
        """Headers from variables of ours or arguments do not mix with standard ones, which may hold another's key."""
        set_otel(HEADERS="key=theirs,other=theirs")
        set_main(HEADERS__KEY="ours")
        assert headers(otlp()) == {"key": "ours"}
        given = {"b": {"type": "otlp", "headers": {"key": "argument"}}}
        entry = ObservabilitySettings(exporters=given).exporters["b"]
        assert isinstance(entry, OtlpExporterSettings)
        assert headers(entry) == {"key": "argument"}

    @pytest.mark.parametrize("address", ["ENDPOINT", "TRACES_ENDPOINT"])
    def test_a_key_does_not_go_to_another_address(
        self, set_main: SetMain, set_otel: SetMain, address: str
    ) -> None:
        """Headers and client certificate are for the destination of the standard variables, and for no other."""
        set_otel(ENDPOINT="https://theirs", HEADERS="key=s3cr3t", CERTIFICATE="ca.pem", TIMEOUT="1000")
        set_otel(CLIENT_CERTIFICATE="client.pem", CLIENT_KEY="client.key")
        set_main(**{address: "https://ours"})
        main = otlp()
        assert (main.headers, main.client_certificate, main.client_key) == ({}, None, None)
        assert (main.ca_file, main.timeout) == (Path("ca.pem"), 1.0)

    def test_what_is_for_an_address_that_is_not_valid_goes_to_no_other(
        self, set_main: SetMain, set_otel: SetMain
    ) -> None:
        """The spans go to the address for every signal, with what is for that one."""
        set_otel(TRACES_ENDPOINT="collector:4318", TRACES_HEADERS="key=s3cr3t", ENDPOINT="https://theirs")
        set_otel(TRACES_CLIENT_CERTIFICATE="client.pem", TRACES_CLIENT_KEY="client.key")
        set_main()
        with pytest.warns(SettingsWarning, match="TRACES_ENDPOINT does not begin with"):
            main = otlp()
        assert (main.endpoint, headers(main)) == ("https://theirs", {})
        assert (main.client_certificate, main.client_key) == (None, None)
        set_otel(HEADERS="key=general")
        with pytest.warns(SettingsWarning):
            assert headers(otlp()) == {"key": "general"}

    @pytest.mark.parametrize("name", ["HEADERS", "TRACES_HEADERS"])
    def test_headers_that_go_nowhere_are_named(self, set_main: SetMain, set_otel: SetMain, name: str) -> None:
        """Unless the variables name their address, or the exporter has headers of its own."""
        set_otel(**{name: "key=s3cr3t"})
        set_main(ENDPOINT="https://ours")
        with pytest.warns(
            SettingsWarning, match=f"^OTEL_EXPORTER_OTLP_{name} goes to the address of "
        ) as caught:
            assert headers(otlp()) == {}
        assert "s3cr3t" not in str(caught[0].message)
        set_main(ENDPOINT="https://ours", HEADERS="key=ours")
        assert headers(otlp()) == {"key": "ours"}

    def test_certificates_are_for_https(self, set_main: SetMain, set_otel: SetMain) -> None:
        """The specification has them used over a secure connection only; over another one they are left out."""
        set_main()
        set_otel(CERTIFICATE="ca.pem", CLIENT_CERTIFICATE="client.pem", CLIENT_KEY="client.key")
        assert (otlp().ca_file, otlp().client_certificate, otlp().client_key) == (None, None, None)
        set_otel(ENDPOINT="https://a", TRACES_CLIENT_KEY="traces.key")
        files = (otlp().ca_file, otlp().client_certificate, otlp().client_key)
        assert files == (Path("ca.pem"), Path("client.pem"), Path("traces.key"))

    def test_certificate_and_key_are_never_mixed(self, set_main: SetMain, set_otel: SetMain) -> None:
        """A client's certificate of ours gets no key of the standard variables, and a key alone is left out."""
        set_main(CLIENT_CERTIFICATE="ours.pem")
        set_otel(ENDPOINT="https://a", CLIENT_CERTIFICATE="client.pem", CLIENT_KEY="client.key")
        assert (otlp().client_certificate, otlp().client_key) == (Path("ours.pem"), None)

    def test_a_client_key_alone_is_left_out(self, set_main: SetMain, set_otel: SetMain) -> None:
        """A standard variable never makes settings of ours fail."""
        set_main()
        set_otel(ENDPOINT="https://a", CLIENT_KEY="client.key")
        assert otlp().client_key is None

    @pytest.mark.parametrize(
        ("insecure", "url"),
        [("", "https://a:1"), ("false", "https://a:1"), ("TRUE", "http://a:1")],
    )
    def test_grpc_takes_an_address_without_a_scheme(
        self, set_main: SetMain, set_otel: SetMain, insecure: str, url: str
    ) -> None:
        """As the specification has it, it is a secure one unless OTEL_EXPORTER_OTLP_INSECURE says otherwise."""
        set_main(PROTOCOL="grpc")
        set_otel(ENDPOINT="a:1", INSECURE=insecure)
        assert otlp().endpoint == url

    def test_a_scheme_wins_over_insecure(self, set_main: SetMain, set_otel: SetMain) -> None:
        """If the address says which it is, the switch does not count."""
        set_main()
        set_otel(PROTOCOL="grpc", ENDPOINT="https://a:1", INSECURE="true")
        assert otlp().endpoint == "https://a:1"

    def test_a_path_does_not_matter_to_grpc(self, set_main: SetMain, set_otel: SetMain) -> None:
        """An address that was written for HTTP serves gRPC too, which has no path."""
        set_main(PROTOCOL="grpc")
        set_otel(TRACES_ENDPOINT="http://a:4317/v1/traces?x#y")
        assert otlp().traces_endpoint == "http://a:4317"

    @pytest.mark.parametrize(
        ("name", "value", "wrong"),
        [
            ("ENDPOINT", "s3cr3t", "does not begin with 'http://' or 'https://'"),
            ("ENDPOINT", "https://me:s3cr3t@a", "holds credentials"),
            ("HEADERS", "s3cr3t", "holds a member that is not key=value"),
            ("HEADERS", "a=s3cr3t%0A", "holds a header that cannot be sent"),
            ("HEADERS", "a b=s3cr3t", "holds a header that cannot be sent"),
            ("COMPRESSION", "s3cr3t", "is neither gzip nor none"),
            ("TIMEOUT", "10s3cr3t", "is not a whole number from 0"),
            ("TIMEOUT", "-1", "is not a whole number from 0"),
            ("PROTOCOL", "s3cr3t", "is neither http/protobuf nor http/json nor grpc"),
        ],
    )
    def test_one_that_is_not_valid_is_warned_about_and_ignored(
        self, set_main: SetMain, set_otel: SetMain, name: str, value: str, wrong: str
    ) -> None:
        """It is as if it were unset, so that the one for all signals holds; the warning has no value."""
        set_main()
        general = {
            "ENDPOINT": "http://a",
            "HEADERS": "a=b",
            "COMPRESSION": "none",
            "TIMEOUT": "1000",
            "PROTOCOL": "grpc",
        }
        set_otel(**{name: general[name]})
        expected = otlp()
        set_otel(**{f"TRACES_{name}": value})
        with pytest.warns(SettingsWarning) as caught:
            assert otlp() == expected
        (warning,) = caught
        assert str(warning.message).startswith(f"{OTEL}TRACES_{name} {wrong}")
        assert str(warning.message).endswith(". It is ignored.")
        assert "s3cr3t" not in str(warning.message)

    def test_insecure_is_a_switch(self, set_main: SetMain, set_otel: SetMain) -> None:
        """Anything else is warned about, and is as good as unset."""
        set_main(PROTOCOL="grpc")
        set_otel(ENDPOINT="a:1", INSECURE="perhaps")
        with pytest.warns(SettingsWarning, match="INSECURE is neither true nor false. It is ignored."):
            assert otlp().endpoint == "https://a:1"

    def test_a_warning_comes_once(self, set_main: SetMain, set_otel: SetMain) -> None:
        """However many exporters there are, a variable is warned about once."""
        set_main()
        set_otel(TIMEOUT="x")
        with pytest.warns(SettingsWarning) as caught:
            ObservabilitySettings(exporters={"other": {"type": "otlp"}})
        assert len(caught) == 1

    def test_they_are_for_type_otlp_alone(self, set_main: SetMain, set_otel: SetMain) -> None:
        """A preset has its own destination, and a process that sends nothing is not warned about other variables."""
        set_otel(ENDPOINT="http://a", HEADERS="key=s3cr3t", TIMEOUT="1", PROTOCOL="http/json")
        set_main(type="phoenix")
        assert ObservabilitySettings().exporters["main"] == PhoenixExporterSettings()
        set_main(type="memory")
        assert ObservabilitySettings().exporters["main"].type == "memory"

    def test_they_come_from_the_env_file_too(
        self, set_main: SetMain, set_otel: SetMain, tmp_path: Path
    ) -> None:
        """The environment wins over the env file for the standard variables as well."""
        (tmp_path / ".env").write_text("OTEL_EXPORTER_OTLP_TIMEOUT=1000\nOTEL_EXPORTER_OTLP_HEADERS=a=b\n")
        set_main()
        set_otel(TIMEOUT="2000")
        main = otlp(_env_file=tmp_path / ".env")
        assert (main.timeout, headers(main)) == (2.0, {"a": "b"})

    def test_an_entry_that_is_an_object_takes_none(self, set_otel: SetMain) -> None:
        """What the application has built itself is taken as it is."""
        set_otel(ENDPOINT="http://a", HEADERS="a=b")
        given = OtlpExporterSettings(endpoint="http://ours")
        assert otlp(exporters={"main": given}) is given

    def test_a_json_object_is_filled_up_too(self, monkeypatch: pytest.MonkeyPatch, set_otel: SetMain) -> None:
        """If the exporters are one JSON object, standard variables stand in as elsewhere."""
        monkeypatch.setenv(
            "NAT_OBSERVABILITY_EXPORTERS", json.dumps({"main": {"type": "otlp", "timeout": 4}})
        )
        set_otel(ENDPOINT="http://a", TIMEOUT="1")
        assert (otlp().endpoint, otlp().timeout) == ("http://a", 4.0)
