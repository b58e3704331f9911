"""Contract of the settings: where they come from, what a wrong one says, and what they never show."""

from __future__ import annotations

import json
import os
import traceback
import warnings
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.resource import ResourceValue
from nat_observability.settings import (
    CustomExporterSettings,
    FileExporterSettings,
    MemoryExporterSettings,
    ObservabilitySettings,
    PresetExporterSettings,
    SqliteExporterSettings,
)
from nat_observability.settings.example_env import describe_variables, example_env, setting_rows
from nat_observability.settings.observability import BUILT_IN
from nat_observability.settings.standard_variables.opentelemetry import StandardVariables, parse_pairs

PREFIX = "NAT_OBSERVABILITY_"
MAIN = "EXPORTERS__MAIN__"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any of our variables and the standard ones."""
    for name in os.environ:
        if name.upper().startswith((PREFIX, "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def set_ours(monkeypatch: pytest.MonkeyPatch) -> SetOurs:
    """Sets variables of ours, named without their prefix."""
    return SetOurs(monkeypatch)


class SetOurs:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(PREFIX + name, value)


def own(settings: ObservabilitySettings) -> dict[str, ResourceValue]:
    """The resource without what every process of ours has."""
    return {key: text for key, text in settings.resource.items() if not key.startswith("telemetry.sdk.")}


def problems(**arguments: object) -> str:
    """What a failing construction says."""
    with pytest.raises(SettingsError) as caught:
        ObservabilitySettings(**arguments)  # type: ignore[arg-type]
    return str(caught.value)


class TestSources:
    def test_nothing_set_gives_the_defaults(self) -> None:
        """Without any variable the settings are complete, enabled, and without exporters."""
        settings = ObservabilitySettings()
        assert settings.enabled
        assert settings.service_name == "unknown_service"
        assert settings.exporters == {}
        assert (settings.start_timeout, settings.shutdown_timeout) == (10.0, 20.0)

    def test_exporters_are_named_by_their_variables(self, set_ours: SetOurs) -> None:
        """Each group of variables is one exporter, of the model of its type."""
        set_ours(EXPORTERS__STORE__TYPE="sqlite", EXPORTERS__STORE__PATH="a.sqlite3")
        set_ours(EXPORTERS__LOG__TYPE="file", EXPORTERS__LOG__PATH="a.jsonl", EXPORTERS__LOG__BATCH_AGE="0.5")
        exporters = ObservabilitySettings().exporters
        assert exporters["store"] == SqliteExporterSettings(path=Path("a.sqlite3"))
        assert exporters["log"] == FileExporterSettings(path=Path("a.jsonl"), batch_age=0.5)

    def test_names_are_case_insensitive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable may be in any case, and the name of an exporter is in lower case."""
        monkeypatch.setenv("nat_observability_exporters__Main__type", "memory")
        assert list(ObservabilitySettings().exporters) == ["main"]
        given = ObservabilitySettings(exporters={"OTHER": MemoryExporterSettings()})
        assert set(given.exporters) == {"other", "main"}

    def test_names_that_differ_in_case_only_are_refused(self) -> None:
        """Two exporters never become one silently."""
        said = problems(exporters={"A": {"type": "memory"}, "a": {"type": "memory"}})
        assert "NAT_OBSERVABILITY_EXPORTERS holds two exporters whose names differ in case only" in said

    @pytest.mark.parametrize("name", ["", "  "])
    def test_an_exporter_has_a_name(self, name: str) -> None:
        """An empty name is refused."""
        assert "holds an exporter without a name" in problems(exporters={name: {"type": "memory"}})

    def test_an_empty_variable_is_an_unset_one(self, set_ours: SetOurs) -> None:
        """An empty value stands for the default, as the lines of an env file without one do."""
        set_ours(START_TIMEOUT="", EXPORTERS="", SECRETS_DIR="", RESOURCE_ATTRIBUTES="")
        assert ObservabilitySettings() == ObservabilitySettings(_env_file=None)
        assert ObservabilitySettings().start_timeout == 10.0

    def test_each_source_wins_over_the_next(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """An argument wins over the environment, that over the env file, that over a secret file."""
        for name in "ABCD":
            (tmp_path / f"{PREFIX}EXPORTERS__{name}__LIMIT").write_text("4")
        env_file = tmp_path / ".env"
        env_file.write_text("".join(f"{PREFIX}EXPORTERS__{name}__LIMIT=3\n" for name in "ABC"))
        set_ours(**{f"EXPORTERS__{name}__LIMIT": "2" for name in "AB"})
        set_ours(**{f"EXPORTERS__{name}__TYPE": "memory" for name in "ABCD"}, SECRETS_DIR=str(tmp_path))
        settings = ObservabilitySettings(_env_file=env_file, exporters={"a": {"limit": 1}})
        limits = {name: getattr(entry, "limit", None) for name, entry in settings.exporters.items()}
        assert limits == {"a": 1, "b": 2, "c": 3, "d": 4}

    @pytest.mark.parametrize("object_first", [True, False])
    @pytest.mark.parametrize("name", ["EXPORTERS", "EXPORTERS__MAIN"])
    def test_a_variable_changes_a_json_object_in_any_order(
        self, set_ours: SetOurs, name: str, object_first: bool
    ) -> None:
        """Exporters, or one, may be a JSON object, which the variables inside it override, whatever came first."""
        entry = {"type": "memory", "limit": 3, "batch_age": 2}
        variables = {name: json.dumps({"main": entry} if name == "EXPORTERS" else entry), MAIN + "LIMIT": "4"}
        for each in sorted(variables, reverse=not object_first):
            set_ours(**{each: variables[each]})
        assert ObservabilitySettings().exporters["main"] == MemoryExporterSettings(limit=4, batch_age=2)

    def test_an_exporter_passed_as_an_object_is_taken_as_it_is(self, set_ours: SetOurs) -> None:
        """Variables do not change what the application has built itself."""
        set_ours(EXPORTERS__MAIN__LIMIT="4")
        given = MemoryExporterSettings(limit=3)
        assert ObservabilitySettings(exporters={"main": given}).exporters["main"] is given

    def test_settings_are_frozen(self) -> None:
        """Neither the settings nor an exporter's can be changed."""
        settings = ObservabilitySettings(exporters={"main": MemoryExporterSettings()})
        with pytest.raises(ValidationError):
            settings.enabled = False  # type: ignore[misc]
        with pytest.raises(ValidationError):
            settings.exporters["main"].required = True  # type: ignore[misc]

    def test_a_home_directory_is_expanded(self, set_ours: SetOurs, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path in an env file may start with ~, which no shell has expanded there."""
        monkeypatch.setenv("HOME", "/home/somebody")
        set_ours(EXPORTERS__MAIN__TYPE="file", EXPORTERS__MAIN__PATH="~/steps.jsonl")
        assert ObservabilitySettings().exporters["main"] == FileExporterSettings(
            path=Path("/home/somebody/steps.jsonl")
        )


class TestBatch:
    def test_a_small_queue_lowers_the_default_batch(self, set_ours: SetOurs) -> None:
        """Making only the queue smaller also makes the batches fit it."""
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__QUEUE_ITEMS="100")
        assert ObservabilitySettings().exporters["main"].batch_items == 100

    def test_a_batch_above_the_queue_names_both_variables(self, set_ours: SetOurs) -> None:
        """A batch that cannot fill is refused, and both that can be changed are named."""
        set_ours(
            EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__QUEUE_ITEMS="5", EXPORTERS__MAIN__BATCH_ITEMS="6"
        )
        assert f"{PREFIX}{MAIN}BATCH_ITEMS is above {PREFIX}{MAIN}QUEUE_ITEMS" in problems()


class TestWrongValues:
    @pytest.mark.parametrize(
        ("name", "value", "wrong", "allowed"),
        [
            ("START_TIMEOUT", "nan", "not a finite number", "a number above 0 to 2147483.647"),
            ("START_TIMEOUT", "inf", "not a finite number", "a number above 0 to 2147483.647"),
            ("SHUTDOWN_TIMEOUT", "0", "too small", "a number above 0 to 2147483.647"),
            ("SHUTDOWN_TIMEOUT", "-1", "too small", "a number above 0 to 2147483.647"),
            ("SHUTDOWN_TIMEOUT", "1e300", "too large", "a number above 0 to 2147483.647"),
            ("START_TIMEOUT", "5s", "not a number", "a number above 0 to 2147483.647"),
            ("ENABLED", "perhaps", "neither true nor false", "true or false"),
            ("RESOURCE_ATTRIBUTES", "s3cr3t", "holds a member that is not key=value", "name=value pairs"),
            ("RESOURCE_ATTRIBUTES", "a=%zz", "holds a member that is not key=value", "name=value pairs"),
            ("EXPORTERS", "{s3cr3t", "not a JSON object", "a JSON object"),
            ("EXPORTERS", "[1]", "not a JSON object", "a JSON object"),
            ("EXPORTERS", "[" * 100_000, "not a JSON object", "a JSON object"),
            (
                "EXPORTERS__MAIN",
                "memory",
                "not a group of settings",
                f"a JSON object, or variables such as {PREFIX}{MAIN}TYPE",
            ),
            (MAIN + "BATCH_ITEMS", "0", "too small", "a whole number from 1 to 2147483647"),
            (MAIN + "BATCH_ITEMS", "1.5", "not a whole number", "a whole number from 1 to 2147483647"),
            (MAIN + "QUEUE_ITEMS", str(2**31), "too large", "a whole number from 1 to 2147483647"),
            (MAIN + "QUEUE_ITEMS", "9" * 5000, "", "a whole number from 1 to 2147483647"),
            (MAIN + "QUEUE_POLICY", "spill", "", "drop_newest or drop_oldest"),
            (MAIN + "LIMIT", "many", "not a whole number", "a whole number from 1 to 2147483647"),
        ],
    )
    def test_a_wrong_value_is_one_line_that_names_the_variable(
        self, set_ours: SetOurs, name: str, value: str, wrong: str, allowed: str
    ) -> None:
        """The line names the variable, what is wrong and what is allowed; it is the only one."""
        set_ours(**({MAIN + "TYPE": "memory"} if name != "EXPORTERS__MAIN" else {}), **{name: value})
        with pytest.raises(SettingsError) as caught:
            ObservabilitySettings()
        (line,) = caught.value.problems
        assert line.startswith(f"{PREFIX}{name} ")
        assert wrong in line
        assert f"allowed: {allowed}" in line

    def test_every_problem_is_reported_at_once(self, set_ours: SetOurs) -> None:
        """All wrong values are in one error, a line each."""
        set_ours(
            ENABLED="x", START_TIMEOUT="x", EXPORTERS__MAIN__TYPE="file", EXPORTERS__MAIN__QUEUE_ITEMS="x"
        )
        with pytest.raises(SettingsError) as caught:
            ObservabilitySettings()
        named = [line.split()[0].removeprefix(PREFIX) for line in caught.value.problems]
        assert named == ["ENABLED", "START_TIMEOUT", MAIN + "QUEUE_ITEMS", MAIN + "PATH"]

    def test_an_unknown_key_names_the_nearest_one(self, set_ours: SetOurs) -> None:
        """A misspelt setting of a built-in exporter is an error that says which one was meant."""
        set_ours(EXPORTERS__MAIN__TYPE="sqlite", EXPORTERS__MAIN__PATH="a", EXPORTERS__MAIN__SYNCHRONUS="off")
        assert f"{MAIN}SYNCHRONUS is not a setting. Did you mean {PREFIX}{MAIN}SYNCHRONOUS?" in problems()

    def test_an_unknown_key_like_no_other_lists_the_known_ones(self, set_ours: SetOurs) -> None:
        """If no name is close, what may be set is listed, as far as a terminal's few lines go."""
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__ZZZZZZ="1")
        text = problems()
        assert f"{MAIN}ZZZZZZ is not a setting. Known there: TYPE, REDACT, " in text
        assert text.endswith(" more, which `nat-observability settings --example` lists.")
        assert len(text) < 640  # eight lines

    def test_an_unknown_argument_like_no_other_lists_the_known_ones(self) -> None:
        """By the names that variables have, without the prefix."""
        text = problems(zzzzzz=1)
        assert f"{PREFIX}ZZZZZZ is not a setting. Known there: REDACT, REDACT_KEYS, " in text
        assert len(text) < 640

    def test_an_unknown_argument_names_the_nearest_one(self) -> None:
        """A misspelt argument is an error too."""
        assert "SERVCE_NAME is not a setting. Did you mean NAT_OBSERVABILITY_SERVICE_NAME?" in problems(
            servce_name="x"
        )

    def test_a_missing_type_says_which_there_are(self, set_ours: SetOurs) -> None:
        """An exporter without a type is one problem, not a problem of each type."""
        set_ours(EXPORTERS__MAIN__PATH="x")
        allowed = "text that is not empty, such as sqlite, otlp, file or console"
        assert problems() == f"Settings are not valid: {PREFIX}{MAIN}TYPE is not set; allowed: {allowed}."

    def test_sqlite_does_not_record_steps(self, set_ours: SetOurs) -> None:
        """The store holds spans; asking it for steps says so."""
        set_ours(EXPORTERS__MAIN__TYPE="sqlite", EXPORTERS__MAIN__PATH="x", EXPORTERS__MAIN__RECORD="steps")
        assert (
            "RECORD cannot be steps, which an exporter of type sqlite does not take; allowed: spans"
            in problems()
        )
        set_ours(EXPORTERS__MAIN__RECORD="s3cr3t")
        assert "RECORD is not valid; allowed: spans" in problems()

    def test_no_value_is_in_the_error_or_around_it(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """Neither the message nor the exceptions that led to it, which a crash report collects, hold a value (G14)."""
        names = [each.name for each in describe_variables()]
        wrong = {
            name.removeprefix(PREFIX).replace("<NAME>", "MAIN"): "s3cr3t"
            for name in names
            if "SECRETS" not in name
        }
        for kind in BUILT_IN:
            set_ours(
                **{
                    **wrong,
                    MAIN + "TYPE": kind,
                    MAIN + "NOVEL": "s3cr3t",
                    "EXPORTERS": '{"s": {"x": "s3cr3t"}}',
                }
            )
            with pytest.raises(SettingsError) as caught:
                ObservabilitySettings()
            assert caught.value.__context__ is None
            assert len(caught.value.problems) > 3
            assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
            assert "pydantic" not in str(caught.value)

    def test_an_env_file_that_is_not_text_is_a_settings_error(self, tmp_path: Path) -> None:
        """The error for what cannot be decoded does not show its bytes."""
        (tmp_path / ".env").write_bytes(b"NAT_OBSERVABILITY_SERVICE_NAME=\xff\xfe s3cr3t")
        named = f"_env_file names {tmp_path / '.env'}, which is not UTF-8 text; allowed: "
        assert named in problems(_env_file=tmp_path / ".env")
        assert (
            problems(_env_file=tmp_path / ".env", _env_file_encoding="no-such").count("does not exist") == 1
        )

    def test_a_quoted_value_of_an_env_file_has_no_comment(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """It was read here, without its comments; what Docker has put into the environment may have some."""
        (tmp_path / "a.env").write_text(f"{PREFIX}SERVICE_NAME='a # b' # c\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ObservabilitySettings(_env_file=tmp_path / "a.env").service_name == "a # b"
        set_ours(SERVICE_NAME="a # b")
        with pytest.warns(SettingsWarning, match="SERVICE_NAME has a comment behind its value"):
            ObservabilitySettings(_env_file=tmp_path / "a.env")

    def test_an_env_file_may_be_a_pipe(self) -> None:
        """As `<(...)` of a shell is: what is read from it is gone."""
        reading, writing = os.pipe()
        os.write(writing, f"{PREFIX}SERVICE_NAME=piped\n".encode())
        os.close(writing)
        try:
            assert ObservabilitySettings(_env_file=f"/dev/fd/{reading}").service_name == "piped"
        finally:
            os.close(reading)

    def test_a_problem_of_the_whole_is_reported(self) -> None:
        """A service that derives its own settings, with a rule about all of them, gets a settings error too."""

        class ShopSettings(ObservabilitySettings):
            @model_validator(mode="after")
            def _complete(self) -> ShopSettings:
                raise ValueError("needs an exporter")

        with pytest.raises(SettingsError, match="The whole needs an exporter"):
            ShopSettings()

    def test_a_wrong_argument_names_the_variable(self) -> None:
        """An argument of the wrong type is reported as its variable is, whatever was read before validation."""
        assert "NAT_OBSERVABILITY_SECRETS_DIR is not a path" in problems(secrets_dir=5)
        assert "NAT_OBSERVABILITY_EXPORTERS is not a JSON object" in problems(exporters=5)
        assert "NAT_OBSERVABILITY_EXPORTERS__A is not a group" in problems(exporters={"a": None})

    def test_a_direct_model_error_hides_the_input(self) -> None:
        """An exporter's settings that the application builds itself do not show a wrong value either."""
        with pytest.raises(ValidationError) as caught:
            MemoryExporterSettings(limit="s3cr3t")  # type: ignore[arg-type]
        assert "s3cr3t" not in str(caught.value)


class TestEnvFile:
    def test_a_variable_names_it(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """It is read as the one that is passed is; the environment wins over it, an empty variable names none."""
        (tmp_path / "a.env").write_text(f"{PREFIX}SERVICE_NAME=file\n{PREFIX}EXPORTERS__A__TYPE=memory\n")
        set_ours(ENV_FILE=str(tmp_path / "a.env"))
        assert ObservabilitySettings() == ObservabilitySettings(_env_file=tmp_path / "a.env")
        assert ObservabilitySettings().service_name == "file"
        set_ours(SERVICE_NAME="environment")
        assert ObservabilitySettings().service_name == "environment"
        set_ours(ENV_FILE="", SERVICE_NAME="")
        assert ObservabilitySettings().exporters == {}

    def test_an_argument_wins_over_the_variable(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """A file that is passed, or None for none, wins, wherever the variable points."""
        (tmp_path / "a.env").write_text(f"{PREFIX}SERVICE_NAME=argument\n")
        set_ours(ENV_FILE=str(tmp_path / "nowhere.env"))
        assert ObservabilitySettings(_env_file=tmp_path / "a.env").service_name == "argument"
        assert ObservabilitySettings(_env_file=None).service_name == "unknown_service"

    def test_a_variable_wins_over_the_class(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """A service with its own env file may be given another; its own need not exist."""

        class ShopSettings(ObservabilitySettings):
            model_config = SettingsConfigDict(env_file=tmp_path / "shop.env")

        assert ShopSettings().service_name == "unknown_service"
        (tmp_path / "shop.env").write_text(f"{PREFIX}SERVICE_NAME=shop\n")
        assert ShopSettings().service_name == "shop"
        (tmp_path / "a.env").write_text(f"{PREFIX}SERVICE_NAME=a\n")
        set_ours(ENV_FILE=str(tmp_path / "a.env"))
        assert ShopSettings().service_name == "a"

    def test_one_that_cannot_be_read_is_an_error(
        self, set_ours: SetOurs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """It names who named it, and the path; of several each that is wrong."""
        (tmp_path / "good.env").write_text(f"{PREFIX}SERVICE_NAME=good\n")
        (tmp_path / "folder").mkdir()
        monkeypatch.chdir(tmp_path)
        end = "; allowed: an env file that exists, or nothing."
        wrong = {
            "nowhere.env": f"nowhere.env, which does not exist in {tmp_path}",
            f"{tmp_path}/nowhere.env": f"{tmp_path}/nowhere.env, which does not exist",
            "good.env/below": f"good.env/below, which does not exist in {tmp_path}",
            "folder": "folder, which is a directory",
            "~no-such-user-at-all/a.env": "~no-such-user-at-all/a.env, which cannot be read",
        }
        for file, said in wrong.items():
            assert problems(_env_file=file) == f"Settings are not valid: _env_file names {said}{end}"
            assert problems(_env_file=Path(file)) == problems(_env_file=file)
            set_ours(ENV_FILE=file)
            assert problems() == f"Settings are not valid: {PREFIX}ENV_FILE names {said}{end}"
        lines = (
            problems(_env_file=("good.env", "one.env", "folder"))
            .removeprefix("Settings are not valid: ")
            .splitlines()
        )
        assert [line.partition(",")[0].strip() for line in lines] == [
            "_env_file names one.env",
            "_env_file names folder",
        ]

    def test_several_are_read_the_last_one_wins(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Also by names that are relative to the working directory."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.env").write_text(f"{PREFIX}SERVICE_NAME=a\n{PREFIX}START_TIMEOUT=3\n")
        (tmp_path / "b.env").write_text(f"{PREFIX}SERVICE_NAME=b\n")
        settings = ObservabilitySettings(_env_file=("a.env", "b.env"))
        assert (settings.service_name, settings.start_timeout) == ("b", 3.0)

    def test_what_says_nothing_in_it_is_warned_about(self, tmp_path: Path) -> None:
        """A misspelt prefix, and another env file; other programs' variables there do not matter."""
        (tmp_path / "a.env").write_text(
            f"NAT_OBSERVABILTY_SERVICE_NAME=x\n{PREFIX}ENV_FILE=b.env\nOBSERVABILITY_X=1\nOTEL_X=1\n"
        )
        with pytest.warns(SettingsWarning) as caught:
            ObservabilitySettings(_env_file=tmp_path / "a.env")
        assert [str(warning.message) for warning in caught] == [
            f"NAT_OBSERVABILTY_SERVICE_NAME is not a setting. Did you mean {PREFIX}SERVICE_NAME? It is ignored.",
            f"{PREFIX}ENV_FILE is read from the environment, not from an env file. It is ignored.",
        ]


class TestUnknownVariables:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("SERVCE_NAME", "SERVICE_NAME"),
            ("RESOURCE_ATTRIBUTES__REGION", "RESOURCE_ATTRIBUTES"),
            ("EXPORTER__MAIN__TYPE", "EXPORTERS__MAIN__TYPE"),
            ("EXPORTERS_MAIN_BATCH_ITEMS", "EXPORTERS__MAIN__BATCH_ITEMS"),
        ],
    )
    def test_an_unknown_variable_is_warned_about(self, set_ours: SetOurs, name: str, meant: str) -> None:
        """It is ignored, and the warning has the name that was probably meant."""
        set_ours(**{name: "s3cr3t"})
        with pytest.warns(SettingsWarning) as caught:
            assert ObservabilitySettings() == ObservabilitySettings.model_construct()
        (warning,) = caught
        assert (
            str(warning.message)
            == f"{PREFIX}{name} is not a setting. Did you mean {PREFIX}{meant}? It is ignored."
        )

    def test_the_warning_points_at_the_caller(self, set_ours: SetOurs) -> None:
        """The line that is named is the one that made the settings."""
        set_ours(ZZZZ="1")
        with pytest.warns(SettingsWarning, match="ZZZZ is not a setting. It is ignored.") as caught:
            ObservabilitySettings()
        assert caught[0].filename == __file__

    def test_an_unknown_variable_in_the_env_file_is_warned_about(self, tmp_path: Path) -> None:
        """The env file is checked as the environment is; what is not ours there does not matter."""
        (tmp_path / ".env").write_text("NAT_OBSERVABILITY_ENABLE=true\nDATABASE_URL=x\n")
        with pytest.warns(SettingsWarning, match="Did you mean NAT_OBSERVABILITY_ENABLED?") as caught:
            ObservabilitySettings(_env_file=tmp_path / ".env")
        assert len(caught) == 1

    @pytest.mark.parametrize(
        "line",
        [
            "NAT_OBSERVABILITY_SERVICE_NAME: s3cr3t",
            'NAT_OBSERVABILITY_SERVICE_NAME="s3cr3t',
            "set NAT_OBSERVABILITY_SERVICE_NAME=s3cr3t",
            '{"NAT_OBSERVABILITY_SERVICE_NAME": "s3cr3t"}',
            '{"NAT_OBSERVABILITY_SERVICE_NAME": "s3cr3t=", "x": 1}',
            "https://nat_observability_s3cr3t/",
        ],
    )
    def test_a_line_of_the_env_file_that_is_no_variable_is_named(self, tmp_path: Path, line: str) -> None:
        """By its number alone, at the caller: it may hold a secret. Names without a value are left alone."""
        (tmp_path / ".env").write_text(f"# ours\nHOME\n{line}\nNAT_OBSERVABILITY_ENABLED=false\n")
        with pytest.warns(SettingsWarning) as caught:
            settings = ObservabilitySettings(_env_file=tmp_path / ".env")
        assert [str(each.message) for each in caught] == [
            f"{tmp_path / '.env'}, line 3 is not NAME=value. It is ignored."
        ]
        assert caught[0].filename == __file__
        assert (settings.enabled, settings.service_name) == (False, "unknown_service")

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ("{0}=tea\n{0}=s3cr3t", 2, "sets {0} once more: this value counts, and not the one before."),
            (
                "{0}=tea\nexport nat_observability_service_name=s3cr3t",
                2,
                "sets {0} once more: this value counts",
            ),
            ("{0}=s3cr3t${{NO_SUCH}}", 1, "refers in {0} to a variable that is not set: it counts as empty."),
            ("{0}=${{LATER}}\nLATER=s3cr3t", 1, "refers in {0} to a variable that is not set"),
            ("{0}", 1, "is not NAME=value. It is ignored."),
        ],
    )
    def test_a_line_of_the_env_file_that_does_not_say_what_it_seems_to_is_named(
        self, tmp_path: Path, text: str, line: int, problem: str
    ) -> None:
        """Two values for one variable, and references to nothing; a value is not shown."""
        name = "NAT_OBSERVABILITY_SERVICE_NAME"
        (tmp_path / ".env").write_text(text.format(name))
        with pytest.warns(SettingsWarning) as caught:
            ObservabilitySettings(_env_file=tmp_path / ".env")
        [said] = [str(each.message) for each in caught]
        assert said.startswith(f"{tmp_path / '.env'}, line {line} {problem.format(name)}")
        assert "s3cr3t" not in said

    def test_a_line_of_the_env_file_that_is_clear_is_not_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A value that is repeated, a reference to what is set, a default, and what is not ours."""
        monkeypatch.setenv("REGION", "eu")
        lines = ("A=1", "A=${NO_SUCH}", *[f"{PREFIX}SERVICE_NAME=tea-${{REGION}}-${{A}}-${{NO_SUCH:-x}}"] * 2)
        (tmp_path / ".env").write_text("\n".join(lines))
        assert ObservabilitySettings(_env_file=tmp_path / ".env").service_name == "tea-eu--x"


class TestStandardVariables:
    def test_they_stand_in_for_ours(self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs) -> None:
        """Every standard variable gives a default, in the units of our settings."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "region=eu,zone=1")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2048")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1024")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5000")
        monkeypatch.setenv("OTEL_BSP_EXPORT_TIMEOUT", "1500")
        set_ours(EXPORTERS__MAIN__TYPE="memory")
        settings = ObservabilitySettings(exporters={"argument": {"type": "other"}})
        assert not settings.enabled
        assert own(settings) == {"service.name": "shop", "region": "eu", "zone": "1"}
        for entry in settings.exporters.values():
            assert (entry.queue_items, entry.batch_items) == (2048, 1024)
            assert (entry.batch_age, entry.write_timeout) == (5.0, 1.5)

    def test_ours_win(self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs) -> None:
        """What is set by our variables, or as an argument, is not changed by a standard one."""
        for name, value in {
            "OTEL_SDK_DISABLED": "true",
            "OTEL_SERVICE_NAME": "x",
            "OTEL_BSP_MAX_QUEUE_SIZE": "7",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "region=eu,zone=1")
        set_ours(ENABLED="true", SERVICE_NAME="ours", RESOURCE_ATTRIBUTES="region=us")
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__QUEUE_ITEMS="9")
        settings = ObservabilitySettings(exporters={"a": {"type": "memory", "queue_items": 8}})
        assert settings.enabled
        assert own(settings) == {"service.name": "ours", "region": "us", "zone": "1"}
        assert {name: entry.queue_items for name, entry in settings.exporters.items()} == {"a": 8, "main": 9}

    def test_they_come_from_the_env_file_too(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The environment wins over the env file for the standard variables as well."""
        (tmp_path / ".env").write_text("OTEL_SERVICE_NAME=file\nOTEL_RESOURCE_ATTRIBUTES=a=b\n")
        assert own(ObservabilitySettings(_env_file=tmp_path / ".env")) == {
            "service.name": "file",
            "a": "b",
        }
        monkeypatch.setenv("OTEL_SERVICE_NAME", "environment")
        assert ObservabilitySettings(_env_file=tmp_path / ".env").service_name == "environment"

    def test_the_service_name_follows_its_order(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs
    ) -> None:
        """The attribute is the weakest of each kind, the standard kind weaker than ours, and all above the default."""
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=1")
        assert ObservabilitySettings().service_name == "1"
        monkeypatch.setenv("OTEL_SERVICE_NAME", "2")
        assert ObservabilitySettings().service_name == "2"
        set_ours(RESOURCE_ATTRIBUTES="service.name=3")
        assert ObservabilitySettings().service_name == "3"
        assert ObservabilitySettings(resource_attributes={"service.name": "4"}).service_name == "4"
        set_ours(SERVICE_NAME="5")
        settings = ObservabilitySettings(resource_attributes={"service.name": "4"})
        assert (own(settings), settings.resource_attributes) == ({"service.name": "5"}, {})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(2**31)),
            ("OTEL_BSP_SCHEDULE_DELAY", "1.5"),
            ("OTEL_BSP_SCHEDULE_DELAY", "٣"),  # a digit, though not one of ASCII
            ("OTEL_BSP_EXPORT_TIMEOUT", "9" * 5000),
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,s3cr3t"),
            ("OTEL_RESOURCE_ATTRIBUTES", '"s3cr3t=b"'),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%s3cr3t"),
        ],
    )
    def test_one_that_is_not_valid_is_warned_about_and_ignored(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        """As the OpenTelemetry specification demands, it is as if it were unset; the warning has no value."""
        given = {"main": {"type": "memory"}}
        expected = ObservabilitySettings(exporters=given)
        monkeypatch.setenv(name, value)
        with pytest.warns(SettingsWarning, match=f"^{name} .*It is ignored.$") as caught:
            assert ObservabilitySettings(exporters=given) == expected
        (warning,) = caught
        assert "s3cr3t" not in str(warning.message)

    def test_a_batch_above_the_queue_is_ignored(self) -> None:
        """The specification has a batch no larger than the queue, so a larger one is out of range."""
        read = StandardVariables.read({"otel_bsp_max_queue_size": "5", "otel_bsp_max_export_batch_size": "6"})
        assert (read.queue_items, read.batch_items) == (5, None)
        assert read.ignored == ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is above OTEL_BSP_MAX_QUEUE_SIZE.",)

    def test_a_batch_never_breaks_a_queue_of_ours(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs
    ) -> None:
        """A standard variable never makes settings of ours fail."""
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "600")
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__QUEUE_ITEMS="100")
        with pytest.warns(
            SettingsWarning, match=f"BATCH_SIZE is above {PREFIX}{MAIN}QUEUE_ITEMS. It is ignored"
        ):
            assert ObservabilitySettings().exporters["main"].batch_items == 100

    def test_a_batch_never_breaks_the_default_queue(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs
    ) -> None:
        """A batch of a standard variable alone, above the default of the queue, is warned about and ignored."""
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10000")
        set_ours(EXPORTERS__MAIN__TYPE="memory")
        with pytest.warns(
            SettingsWarning, match=f"BATCH_SIZE is above the default of {PREFIX}{MAIN}QUEUE_ITEMS"
        ):
            main = ObservabilitySettings().exporters["main"]
        assert (main.queue_items, main.batch_items) == (8192, 512)

    @pytest.mark.parametrize("given", ["1000", "1000.0"])
    def test_a_queue_never_breaks_a_batch_of_ours(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs, given: str
    ) -> None:
        """A queue of a standard variable that our batch does not fit is warned about and ignored, the rest holds."""
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "512")
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__BATCH_ITEMS=given)
        set_ours(EXPORTERS__OTHER__TYPE="memory")
        with pytest.warns(
            SettingsWarning, match=f"QUEUE_SIZE is below {PREFIX}{MAIN}BATCH_ITEMS. It is ignored"
        ):
            exporters = ObservabilitySettings().exporters
        assert (exporters["main"].queue_items, exporters["main"].batch_items) == (8192, 1000)
        assert exporters["other"].queue_items == 512

    def test_a_queue_and_a_batch_that_fit_hold(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs
    ) -> None:
        """A standard batch is compared with the queue that holds: the standard one here."""
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20000")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10000")
        set_ours(EXPORTERS__MAIN__TYPE="memory")
        main = ObservabilitySettings().exporters["main"]
        assert (main.queue_items, main.batch_items) == (20000, 10000)

    def test_a_wrong_size_of_ours_is_the_only_problem(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs
    ) -> None:
        """Next to a standard variable, a size of ours that is not a number is reported as usual."""
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "512")
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__BATCH_ITEMS="many")
        assert f"{PREFIX}{MAIN}BATCH_ITEMS is not a whole number" in problems()

    def test_a_timeout_of_zero_means_no_limit(
        self, monkeypatch: pytest.MonkeyPatch, set_ours: SetOurs
    ) -> None:
        """The specification reads 0 so for a timeout, and lets the largest number stand for it; a delay of 0 is 0."""
        monkeypatch.setenv("OTEL_BSP_EXPORT_TIMEOUT", "0")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "0")
        set_ours(EXPORTERS__MAIN__TYPE="memory")
        main = ObservabilitySettings().exporters["main"]
        assert (main.write_timeout, main.batch_age) == (2147483.647, 0.0)


any_text = st.text(st.characters(exclude_categories=["Cs"]))
key_text = any_text.filter(lambda text: text.strip() != "")


class TestResourceAttributes:
    @given(st.dictionaries(key_text, any_text))
    def test_what_was_encoded_comes_back(self, attributes: dict[str, str]) -> None:
        """Any attributes survive being percent-encoded and joined, and parsed again."""
        text = ",".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in attributes.items())
        assert parse_pairs(text) == attributes

    @given(st.dictionaries(key_text, any_text), st.sampled_from(["", " ", "\t", " \t "]))
    def test_spaces_around_do_not_count(self, attributes: dict[str, str], space: str) -> None:
        """Optional white space around members, keys and values is trimmed, as W3C Baggage says."""
        pairs = [(quote(key, safe=""), quote(value, safe="")) for key, value in attributes.items()]
        text = ",".join(f"{space}{key}{space}={space}{value}{space}" for key, value in pairs)
        assert parse_pairs(text) == attributes

    @given(st.text())
    def test_any_text_parses_or_is_refused(self, text: str) -> None:
        """No text does anything but give strings that can be encoded, or a ValueError that does not hold it."""
        try:
            parsed = parse_pairs(text)
        except UnicodeError:
            pytest.fail("a Unicode error holds the text")
        except ValueError:
            return
        for key, value in parsed.items():
            assert (key + value).encode().decode() == key + value
            assert key

    @pytest.mark.parametrize(
        ("text", "attributes"),
        [
            ("", {}),
            (" , ,", {}),
            ("a=", {"a": ""}),
            ("a=b=c", {"a": "b=c"}),
            ("a=1,a=2", {"a": "2"}),
            ("a=b;c", {"a": "b;c"}),
            ("caf%C3%A9=%2C", {"café": ","}),
            ("a=1+1", {"a": "1+1"}),
        ],
    )
    def test_special_forms(self, text: str, attributes: dict[str, str]) -> None:
        """Empty members are skipped, a value may hold '=' and ';', the last of a key wins, '+' is not a space."""
        assert parse_pairs(text) == attributes

    @pytest.mark.parametrize(
        "text", ["a", "a=1,b", "=1", "a=1, =2", "a=%", "a=%2", "%g0=1", "a=%ff", "a=\udcff"]
    )
    def test_one_error_discards_everything(self, text: str) -> None:
        """The specification has the whole text discarded, so no part of it is returned."""
        with pytest.raises(ValueError, match=r"^holds "):
            parse_pairs(text)


class TestSecrets:
    def test_a_nested_secret_comes_from_a_file(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """A file named as a variable holds its value; the end of its last line does not count."""
        (tmp_path / "NAT_OBSERVABILITY_EXPORTERS__MAIN__HEADERS__AUTHORIZATION").write_text("Bearer s3cr3t\n")
        (tmp_path / "nat_observability_service_name").write_text("shop")
        set_ours(EXPORTERS__MAIN__TYPE="queue", SECRETS_DIR=str(tmp_path))
        settings = ObservabilitySettings()
        main = settings.exporters["main"]
        assert isinstance(main, CustomExporterSettings)
        assert main.options() == {"headers": {"authorization": "Bearer s3cr3t"}}
        assert settings.service_name == "shop"
        assert ObservabilitySettings(secrets_dir=tmp_path) == settings

    def test_the_files_of_others_are_not_read(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """A directory of secrets that several programs share may hold what is not text, and directories."""
        (tmp_path / "keystore").write_bytes(b"\xff\xfe")
        (tmp_path / "NAT_OBSERVABILITY_BACKUP").mkdir()
        (tmp_path / "NAT_OBSERVABILITY_ENABLED").write_text("false")
        (tmp_path / "NAT_OBSERVABILITY_START_TIMEOUT").write_text("\n")
        set_ours(SECRETS_DIR=str(tmp_path))
        settings = ObservabilitySettings()
        assert (settings.enabled, settings.start_timeout) == (False, 10.0)

    def test_a_directory_that_is_not_there_is_an_error(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """A secret that would be missed later is missed at once."""
        set_ours(SECRETS_DIR=str(tmp_path / "none"))
        assert (
            "NAT_OBSERVABILITY_SECRETS_DIR cannot be read; allowed: a directory of text files" in problems()
        )

    def test_a_secret_that_is_not_text_is_an_error_without_its_bytes(
        self, set_ours: SetOurs, tmp_path: Path
    ) -> None:
        """The decoding error, which holds the bytes, does not travel with ours."""
        (tmp_path / "NAT_OBSERVABILITY_SERVICE_NAME").write_bytes(b"\xffs3cr3t")
        set_ours(SECRETS_DIR=str(tmp_path))
        with pytest.raises(
            SettingsError, match="SECRETS_DIR holds a secret that is not UTF-8 text"
        ) as caught:
            ObservabilitySettings()
        assert caught.value.__context__ is None

    def test_secrets_stay_secret(self, set_ours: SetOurs) -> None:
        """No repr, dump, JSON or listing of the settings shows what looks like a secret (G14)."""
        entry = f"{PREFIX}{MAIN}".removeprefix(PREFIX)
        looks_secret = [
            "API_KEY",
            "TOKEN",
            "CLIENT_SECRET",
            "PASSWORD",
            "AUTHORIZATION",
            "HEADERS__X",
            "COOKIE",
            "DSN",
            "SMTP_PASS",
        ]
        set_ours(**{entry + name: "s3cr3t" for name in looks_secret}, **{entry + "TYPE": "other"})
        set_ours(
            **{
                entry + "URL": "https://me:s3cr3t@host/",
                entry + "PEER": "a:1;Password=s3cr3t",
                entry + "AUTH": '{"keys": ["s3cr3t", {"a": "s3cr3t"}]}',
            }
        )
        settings = ObservabilitySettings()
        main = settings.exporters["main"]
        shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
        shown += [
            repr(main),
            str(main.model_dump()),
            str(setting_rows(settings)),
            str(settings.model_dump(mode="json")),
        ]
        assert not [text for text in shown if "s3cr3t" in text]
        assert isinstance(main, CustomExporterSettings)
        assert json.dumps(main.options()).count("s3cr3t") == len(looks_secret) + 4

    def test_a_number_under_a_secret_name_is_secret_and_kept(self) -> None:
        """A token of digits alone is sealed too, and comes back as what it was."""
        entry = CustomExporterSettings(type="other", token=123456, max_tokens=[1, None, True])  # type: ignore[call-arg]
        assert "123456" not in repr(entry)
        assert entry.options() == {"token": 123456, "max_tokens": [1, None, True]}


class TestCustomTypes:
    def test_an_unknown_type_keeps_its_own_settings(self, set_ours: SetOurs) -> None:
        """Whether the type exists is for the container to say; what it shares with the others is validated."""
        set_ours(
            EXPORTERS__MAIN__TYPE="kafka", EXPORTERS__MAIN__TOPIC="steps", EXPORTERS__MAIN__BATCH_AGE="2"
        )
        main = ObservabilitySettings().exporters["main"]
        assert isinstance(main, CustomExporterSettings)
        assert (main.type, main.batch_age, main.options()) == ("kafka", 2.0, {"topic": "steps"})
        set_ours(EXPORTERS__MAIN__BATCH_AGE="s3cr3t")
        assert f"{PREFIX}{MAIN}BATCH_AGE is not a number" in problems()

    @pytest.mark.parametrize(
        "text", ["0123", "1e5", "true", "null", '"quoted', "12345678901234567890", "{broken"]
    )
    def test_text_from_a_variable_stays_text(self, set_ours: SetOurs, text: str) -> None:
        """A token that looks like a JSON number or word is not made one, which would change it."""
        set_ours(EXPORTERS__MAIN__TYPE="kafka", EXPORTERS__MAIN__TOKEN=text, EXPORTERS__MAIN__PLAIN=text)
        main = ObservabilitySettings().exporters["main"]
        assert isinstance(main, CustomExporterSettings)
        assert main.options() == {"token": text, "plain": text}

    def test_a_service_derives_its_own(self) -> None:
        """A subclass is kept as it is, with its fields and its secrets."""

        class KafkaSettings(CustomExporterSettings):
            topic: str
            password: SecretStr

        given = KafkaSettings(type="kafka", topic="steps", password=SecretStr("s3cr3t"))
        settings = ObservabilitySettings(exporters={"main": given})
        assert settings.exporters["main"] is given
        assert "s3cr3t" not in f"{settings!r} {setting_rows(settings)}"


class TestExample:
    def test_the_file_is_not_stale(self) -> None:
        """settings.example.env is what the model says now."""
        path = Path(__file__).parents[2] / "settings.example.env"
        assert path.read_text("utf-8") == example_env(), "write example_env() to it"

    def test_it_configures_the_demo(self, tmp_path: Path) -> None:
        """As it is, it stores runs in an SQLite file and appends them to a file."""
        (tmp_path / ".env").write_text(example_env())
        settings = ObservabilitySettings(_env_file=tmp_path / ".env")
        assert settings.service_name == "demo"
        assert settings.exporters == {
            "store": SqliteExporterSettings(path=Path("var/demo.sqlite3")),
            "log": FileExporterSettings(path=Path("var/demo.jsonl")),
        }

    def test_every_commented_line_is_a_default(self, tmp_path: Path) -> None:
        """With each line switched on nothing changes, but that the commented exporters are there, with defaults."""
        lines = [
            line.removeprefix("#") for line in example_env().splitlines() if "=" in line and line[:2] != "# "
        ]
        (tmp_path / ".env").write_text("\n".join(lines))
        settings = ObservabilitySettings(_env_file=tmp_path / ".env")
        for entry in settings.exporters.values():
            fields = type(entry).model_fields.items()
            required = {key: getattr(entry, key) for key, field in fields if field.is_required()}
            if isinstance(entry, PresetExporterSettings):
                required |= {key: getattr(entry, key) for key in entry.preset.required}
            assert entry == type(entry).model_validate(required)
        process = {"exporters": {}, "service_name": "unknown_service"}
        assert settings.model_copy(update=process) == ObservabilitySettings()
        assert {entry.type for entry in settings.exporters.values()} == set(BUILT_IN)

    def test_every_variable_is_described(self) -> None:
        """Each one has a description, a type and the allowed values, and a line in the example."""
        variables = describe_variables()
        example = example_env()
        for each in variables:
            assert each.description.endswith(".")
            assert each.allowed
            assert each.type
            end = each.name.rpartition("__")[2]
            assert f"{end}={each.default}" in example or f"Default: {each.default}." in example
        assert {each.exporter_type for each in variables} == {None, *BUILT_IN}
        assert len({(each.name, each.exporter_type) for each in variables}) == len(variables)

    def test_a_spool_needs_a_place(self, set_ours: SetOurs) -> None:
        """A spool without a path is an error that names both variables."""
        set_ours(EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MAIN__SPOOL="spill")
        with pytest.raises(SettingsError) as caught:
            ObservabilitySettings()
        assert caught.value.problems == (
            "NAT_OBSERVABILITY_EXPORTERS__MAIN__SPOOL needs NAT_OBSERVABILITY_EXPORTERS__MAIN__SPOOL_PATH: "
            "set it too.",
        )

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("{0}/spool", "{0}/spool"),
            ("{0}/spool", "{0}/link"),
            ("{0}/spool", "{0}/other/../spool/"),
            ("{0}/made", "{0}/made-link"),
            ("spool", "./spool"),
            ("spool", "{0}/spool"),
            ("~/spool", "{0}/spool"),
        ],
    )
    @pytest.mark.parametrize("kinds", [("memory", "otlp"), ("own", "own")])
    def test_two_exporters_with_one_spool_are_refused(
        self,
        set_ours: SetOurs,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        one: str,
        other: str,
        kinds: tuple[str, str],
    ) -> None:
        """One would send what the other has left there: the error names both, however the path is written."""
        (tmp_path / "link").symlink_to(tmp_path / "spool")
        (tmp_path / "made").mkdir()
        (tmp_path / "made-link").symlink_to(tmp_path / "made")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name, kind, path in (("A", kinds[0], one), ("B", kinds[1], other), ("C", "memory", "{0}/c")):
            set_ours(
                **{
                    f"EXPORTERS__{name}__TYPE": kind,
                    f"EXPORTERS__{name}__SPOOL": "always" if name == "A" else "spill",
                    f"EXPORTERS__{name}__SPOOL_PATH": path.format(tmp_path),
                }
            )
        assert problems() == (
            "Settings are not valid: NAT_OBSERVABILITY_EXPORTERS holds exporters with one spool: "
            "NAT_OBSERVABILITY_EXPORTERS__A__SPOOL_PATH and NAT_OBSERVABILITY_EXPORTERS__B__SPOOL_PATH are the same "
            "directory; allowed: one for each."
        )

    def test_a_spool_path_that_is_not_used_is_not_claimed(self, set_ours: SetOurs, tmp_path: Path) -> None:
        """An exporter whose spool is off leaves the directory alone."""
        for name, spool in (("A", "always"), ("B", "off")):
            set_ours(
                **{
                    f"EXPORTERS__{name}__TYPE": "memory",
                    f"EXPORTERS__{name}__SPOOL": spool,
                    f"EXPORTERS__{name}__SPOOL_PATH": str(tmp_path),
                }
            )
        assert set(ObservabilitySettings().exporters) == {"a", "b"}

    def test_exporters_in_code_with_one_spool_are_refused(self, tmp_path: Path) -> None:
        """However the settings are given."""
        entry = MemoryExporterSettings(spool="always", spool_path=tmp_path)
        assert "are the same directory" in problems(exporters={"a": entry, "b": entry})

    def test_a_duration_and_a_size_name_their_unit(self) -> None:
        """The description of a number begins with its unit."""
        for each in describe_variables():
            if each.type in ("number", "whole number"):
                assert each.description.split()[0] in ("Seconds", "Bytes", "Items", "Number"), each.name

    def test_rows_give_the_settings_back(self, set_ours: SetOurs, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without secrets, the listing is a set of variables that means the same."""
        set_ours(EXPORTERS__MAIN__TYPE="file", EXPORTERS__MAIN__PATH="a", EXPORTERS__MAIN__REQUIRED="yes")
        set_ours(
            EXPORTERS__OTHER__TYPE="kafka",
            EXPORTERS__OTHER__KEEP__DEEP="1",
            RESOURCE_ATTRIBUTES="a=%2C%25,b=c",
        )
        settings = ObservabilitySettings()
        for name, value in setting_rows(settings):
            monkeypatch.setenv(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ObservabilitySettings() == settings


def test_several_exporters_may_write_to_one_device() -> None:
    settings = ObservabilitySettings(
        exporters={name: {"type": "file", "path": os.devnull} for name in ("one", "two")}
    )
    assert len(settings.exporters) == 2
