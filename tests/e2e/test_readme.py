"""The README's blocks run, against a real server, and what it names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.live_server import ROOT, LiveServer

README = (ROOT / "README.md").read_text(encoding="utf-8")
PRINTED_ADDRESS = "http://127.0.0.1:3000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_block_streams_an_answer(server: LiveServer) -> None:
    [block] = blocks("sh")
    assert PRINTED_ADDRESS in block
    output = run(["bash", "-c", block.replace(PRINTED_ADDRESS, server.base_url)])
    assert '" Paris"' in output
    assert output.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("index", "printed"), [(0, r"^The capital of France is Paris\.\n$"), (1, r"^\S.* \d+\n$")])
def test_the_python_blocks_print_an_answer(server: LiveServer, index: int, printed: str) -> None:
    block = blocks("python")[index]
    assert PRINTED_ADDRESS in block
    output = run([sys.executable, "-c", block.replace(PRINTED_ADDRESS, server.base_url)])
    assert re.match(printed, output, flags=re.DOTALL), output


def test_the_block_for_your_own_program_prints_frames() -> None:
    output = run([sys.executable, "-c", blocks("python")[2]])
    tokens = ['data: {"token": "xin"}', 'data: {"token": "chào"}', 'data: {"token": "안녕"}', "data: [DONE]"]
    assert output == "\n\n".join([*tokens, "1\n"])


def test_the_configuration_it_shows_is_one(tmp_path: Path) -> None:
    from genkan.config import load

    [block] = blocks("yaml")
    path = tmp_path / "shown.yaml"
    path.write_text(block, encoding="utf-8")
    assert [route.alias for route in load(path, {}).routes] == ["default"]


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z0-9-]+)", README))
    assert {"serve", "test", "bento"} <= named <= targets


def test_every_setting_it_names_exists_and_none_is_missing() -> None:
    from genkan.config import Config

    schema = Config.model_json_schema()
    settings = {name for section in (schema, *schema["$defs"].values()) for name in section.get("properties", {})}
    table = README.split("| section | settings |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z_]+)(?:\[\])?`", table))
    assert named - {"engine", "openai"} == settings - {"engine"}


def test_every_file_in_its_tree_exists() -> None:
    tree = README.split("## Files")[1]
    for name in ("service.py", "bentofile.yaml", "configs/", "requirements/", "src/genkan/", "tests/", "k6/"):
        assert name in tree
        assert (ROOT / name).exists()
    for name in re.findall(r"^  ([a-z_]+(?:\.py|/))", tree, flags=re.MULTILINE):
        assert (ROOT / "src" / "genkan" / name).exists(), name
