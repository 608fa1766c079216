"""The ``genkan`` command."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from click.testing import CliRunner, Result

from genkan import __version__
from genkan.cli import main
from genkan.config import Config

PROVIDERS = Path(__file__).parents[2] / "configs/providers.yaml"
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


class _Models(BaseHTTPRequestHandler):
    """A server that has the model m."""

    def do_GET(self) -> None:
        body = b'{"object":"list","data":[{"id":"m"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def models_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Models) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def _openai(file: Path, base_url: str, model: str) -> str:
    settings = {
        "upstreams": [{"name": "vllm", "kind": "openai", "base_url": base_url}, {"name": "engine", "kind": "engine"}],
        "models": [{"name": model, "upstream": "vllm"}, {"name": "own", "upstream": "engine"}],
        "engine": {"model": str(file)},  # any file will do: it is not read
    }
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(file)


def test_check_tells_what_is_well_of_each_upstream(file: Path, models_url: str) -> None:
    result = genkan("check", _openai(file, models_url, "m"))
    assert result.stdout.splitlines() == [
        "ok      vllm: 1 model there; no key sent",
        "ok      engine: embedded, the file of own is there",
    ]
    assert (result.exit_code, result.stderr) == (0, "")


def test_check_fails_with_what_is_wrong(file: Path, models_url: str) -> None:
    result = genkan("check", _openai(file, models_url, "n"))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "error   vllm: it has no model 'n'; there: m"


def test_check_refuses_a_wrong_configuration_as_config_does(file: Path) -> None:
    file.write_text("server: {}", encoding="utf-8")
    result = genkan("check", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == genkan("config", str(file)).stderr == "error: upstreams: field required\n"


def test_check_offline_asks_nobody(file: Path) -> None:
    result = genkan("check", "--offline", _openai(file, "http://127.0.0.1:1/v1", "m"))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "ok      vllm: no key is configured; not asked, as it is offline"


def test_check_never_shows_a_key(file: Path) -> None:
    keys = {
        "HOLYSHEEP_API_KEY": "hs-0 1",
        "DEEPSEEK_API_KEY": "sk-ant-api03-9fQ2mZ7cLxV4tB8nR1wK6yH3",
        "GEMINI_API_KEY": "gem1n1",
        "OPENAI_API_KEY": "sk-9fQ2mZ7cLxV4tB8nR1wK6yH3",
    }
    result = genkan("check", "--offline", str(PROVIDERS), **keys)
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == [
        "error   holysheep",
        "error   deepseek",
        "error   gemini",
        "ok      openai",
        "ok      engine",
    ]
    assert not any(key in result.output for key in keys.values())


def test_the_providers_configuration_is_the_chain_it_says() -> None:
    printed = Config.model_validate_json(genkan("config", str(PROVIDERS)).stdout)
    assert [(route.alias, route.chain) for route in printed.routes] == [
        ("default", ["deepseek-v3.2", "gemini-2.5-flash", "gpt-4.1", "smollm2-135m-instruct"])
    ]
    assert [[place.upstream for place in model.places] for model in printed.models] == [
        ["deepseek", "holysheep"],
        ["gemini", "holysheep"],
        ["openai", "holysheep"],
        ["engine"],
    ]


def test_check_never_loads_torch() -> None:
    code = "import sys, genkan.upstream.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", [["config"], ["check", "--offline"]])
def test_what_its_parts_make_of_it_is_checked_too(file: Path, command: list[str]) -> None:
    file.write_text(SETTINGS + "redis: {url: 'redis://h:port'}\n", encoding="utf-8")
    result = genkan(*command, str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "redis.url: its port must be a number" in result.stderr


def test_what_it_prints_of_a_shared_price_list_is_a_configuration_again(file: Path, tmp_path: Path) -> None:
    prices = "models: [{model: m, flat: 1}, {model: m, flat: 2, upstream: e}, {model: m, flat: 3, upstream: other}]"
    (tmp_path / "prices.yaml").write_text(prices, encoding="utf-8")
    file.write_text(SETTINGS + "prices: prices.yaml\n", encoding="utf-8")
    printed = genkan("config", str(file)).stdout
    assert [price["flat"] for price in json.loads(printed)["prices"]["models"]] == [1, 2]
    file.write_text(printed, encoding="utf-8")
    assert genkan("config", str(file)).stdout == printed
