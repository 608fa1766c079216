"""The ``genkan`` command."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from genkan import __version__
from genkan.cli import main
from genkan.config import Config

SETTINGS = "upstreams: [{name: e, kind: engine}]\nmodels: [{name: m, upstream: e}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "genkan.yaml"
    path.write_text(SETTINGS, encoding="utf-8")
    return path


def genkan(*arguments: str, **environ: str | None) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def test_prints_the_version() -> None:
    result = genkan("--version")
    assert (result.exit_code, __version__ in result.stdout) == (0, True)


def test_lists_its_commands() -> None:
    result = genkan("--help")
    assert result.exit_code == 0
    assert "Check a configuration" in result.stdout
    assert "Print the JSON schema" in result.stdout


def test_prints_a_checked_configuration_with_every_default(file: Path) -> None:
    result = genkan("config", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert Config.model_validate_json(result.stdout) == Config.model_validate(yaml.safe_load(SETTINGS))
    assert set(json.loads(result.stdout)) == set(Config.model_fields)


def test_what_it_prints_is_a_configuration_again(file: Path, tmp_path: Path) -> None:
    first = genkan("config", str(file)).stdout
    again = tmp_path / "again.yaml"
    again.write_text(first, encoding="utf-8")
    assert genkan("config", str(again)).stdout == first


def test_an_override_is_in_place(file: Path) -> None:
    result = genkan("config", str(file), GENKAN__SERVER__WORKERS="3")
    assert json.loads(result.stdout)["server"]["workers"] == 3


def test_without_a_path_it_checks_the_file_that_would_be_served(file: Path) -> None:
    result = genkan("config", GENKAN_CONFIG=str(file))
    assert json.loads(result.stdout)["models"][0]["name"] == "m"


@pytest.mark.parametrize(
    ("text", "says"),
    [("server: {}", "error: upstreams: field required\n"), (SETTINGS + "x: 1", "error: x: unknown key; allowed: ")],
)
def test_a_wrong_configuration_is_one_line_of_error_and_nothing_else(file: Path, text: str, says: str) -> None:
    file.write_text(text, encoding="utf-8")
    result = genkan("config", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(says)
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    result = genkan("config", str(tmp_path / "gone.yaml"))
    assert result.exit_code == 1
    assert "gone.yaml: No such file" in result.stderr


def test_prints_the_schema() -> None:
    result = genkan("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == Config.model_json_schema()


def test_the_schema_is_printed_as_it_is_kept() -> None:
    kept = Path(__file__).parents[2] / "configs/schema.json"
    assert genkan("schema").stdout == kept.read_text(encoding="utf-8"), "stale: make schema"


def test_an_unknown_command_is_a_usage_error() -> None:
    assert genkan("serve").exit_code == 2
