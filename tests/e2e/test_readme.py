"""The blocks of the README and of docs/ run, against a real server, and what they name exists."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.live_server import ROOT, LiveServer, running_server, without_engine

README = (ROOT / "README.md").read_text(encoding="utf-8")
PRINTED_ADDRESS = "http://127.0.0.1:3000"


def blocks(language: str, page: str = "") -> list[str]:
    """Of the README, or of a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8") if page else README
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str], environ: Mapping[str, str] = os.environ) -> str:
    its_own = {**os.environ, **environ}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=its_own)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_block_streams_an_answer(server: LiveServer) -> None:
    block = blocks("sh")[0]
    assert PRINTED_ADDRESS in block
    output = run(["bash", "-c", block.replace(PRINTED_ADDRESS, server.base_url)])
    assert '" Paris' in output  # of the engine, or stored for another test: then the full stop is with it
    assert output.endswith("data: [DONE]\n\n")


def test_the_block_about_keys_shows_models_and_limits(tmp_path: Path) -> None:
    block = blocks("sh", "accounts.md")[0]
    assert block.count(PRINTED_ADDRESS) == 2
    environ = {"GENKAN_CONFIG": str(without_engine(tmp_path))}
    with running_server(env=environ) as server:
        block = block.replace(PRINTED_ADDRESS, server.base_url).replace(".venv/bin", str(Path(sys.executable).parent))
        # What was just created is known to the worker half a second later.
        patient = block.replace("curl -s", "curl -s --retry 20 --retry-delay 1 --retry-all-errors --fail")
        output = run(["bash", "-c", patient], {**environ, "GENKAN__REDIS__DATA_DIR": str(server.folder / "data")})
    assert '"object":"list"' in output
    assert '"groups":' in output
    assert "acme" in output


def test_the_block_about_embeddings_and_batches_gets_both(server: LiveServer) -> None:
    block = blocks("sh", "api.md")[0]
    assert block.count(PRINTED_ADDRESS) == 2
    block = block.replace(PRINTED_ADDRESS, server.base_url).replace("curl -s", "curl -s -w '\\n'")
    embeddings, batch = (json.loads(line) for line in run(["bash", "-c", block]).splitlines())
    assert [len(each["embedding"]) for each in embeddings["data"]] == [384, 384]
    assert [result["status"] for result in batch["results"]] == [200, 400]


@pytest.mark.parametrize(("index", "printed"), [(0, r"^The capital of France is Paris\.\n$"), (1, r"^\S.* \d+\n$")])
def test_the_python_blocks_print_an_answer(server: LiveServer, index: int, printed: str) -> None:
    block = blocks("python")[index]
    assert PRINTED_ADDRESS in block
    output = run([sys.executable, "-c", block.replace(PRINTED_ADDRESS, server.base_url)])
    assert re.match(printed, output, flags=re.DOTALL), output


def test_the_block_for_your_own_program_prints_frames() -> None:
    output = run([sys.executable, "-c", blocks("python", "library.md")[0]])
    tokens = ['data: {"token": "xin"}', 'data: {"token": "chào"}', 'data: {"token": "안녕"}', "data: [DONE]"]
    assert output == "\n\n".join([*tokens, "1\n"])


def test_the_limiter_block_lets_in() -> None:
    remaining, reset_s, rejected = run([sys.executable, "-c", blocks("python", "library.md")[1]]).split()
    assert int(remaining) == 99
    assert 0 < float(reset_s) <= 60
    assert float(rejected) == 0


def test_the_batcher_block_answers_in_two_batches() -> None:
    assert run([sys.executable, "-c", blocks("python", "library.md")[2]]) == "[3, 4, 2]\n[1, 2]\n2 2.5\n"


def test_the_configuration_it_shows_is_one(tmp_path: Path) -> None:
    from genkan.config import load

    (chains,), limits, answers = blocks("yaml"), blocks("yaml", "accounts.md")[0], blocks("yaml", "cache.md")[0]
    path = tmp_path / "shown.yaml"
    path.write_text(chains, encoding="utf-8")
    assert [route.alias for route in load(path, {}).routes] == ["default"]

    (tmp_path / "prices.yaml").write_text((ROOT / "configs" / "prices.yaml").read_text())
    path.write_text(chains.replace("deepseek-v3.2", "gpt-4.1") + limits, encoding="utf-8")
    assert [tenant.name for tenant in load(path, {}).tenants] == ["acme"]

    served: dict[str, Any] = {"upstreams": [{"name": "u", "kind": "openai", "base_url": "http://127.0.0.1:9/v1"}]}
    served["models"] = [{"name": name, "upstream": "u"} for name in ("gpt-4.1", "gpt-4.1-mini")]
    path.write_text(yaml.safe_dump(served) + answers, encoding="utf-8")
    assert [route.cache.semantic for route in load(path, {}).routes] == ["shadow"]


def pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    texts = [page.read_text(encoding="utf-8") for page in pages()]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE)}
    assert {"serve", "test", "bento"} <= named <= targets


def test_every_page_it_links_to_exists() -> None:
    for page in pages():
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), (page.name, link)


def test_every_page_is_linked_to_from_it() -> None:
    assert [page.name for page in pages() if page.name != "README.md" and f"{page.name})" not in README] == []


def test_its_tree_is_what_is_there() -> None:
    tree = README.split("## Files")[1].split("```")[1]
    for name in re.findall(r"^([a-z0-9]+(?:\.py|\.yaml|/)\S*)", tree, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name
    named = {
        name
        for names in re.findall(r"^  ((?:[a-z_]+(?:\.py|/) ?)+)", tree, flags=re.MULTILINE)
        for name in names.split()
    }
    package = [path for path in (ROOT / "src" / "genkan").iterdir() if path.is_dir() or path.suffix == ".py"]
    assert named == {path.name + "/" * path.is_dir() for path in package if not path.name.startswith("_")}
