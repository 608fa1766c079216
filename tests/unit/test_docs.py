"""What the docs say is what the code says."""

import re
from pathlib import Path

import pytest

from genkan.config import load
from genkan.engine.client import Capability
from genkan.engine.vllm_words import capabilities

DOCS = Path(__file__).parents[2] / "docs"
DOC = (DOCS / "engine.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| (yes|–) \| (yes|–) \|", DOC, flags=re.MULTILINE)
VLLM = capabilities({"structured_outputs_config": {"backend": "guidance"}, "scheduling_policy": "priority"})


def row(capability: Capability) -> tuple[str, str, str]:
    words = re.escape(capability.value)
    [(options, genkan, vllm)] = [row for row in ROWS if re.search(f"`{words}`", row[0].replace("` with `", " with "))]
    return options, genkan, vllm


@pytest.mark.parametrize("capability", Capability)
def test_every_capability_has_a_row_that_says_who_has_it(capability: Capability) -> None:
    _, genkan, vllm = row(capability)
    assert genkan == "yes"
    assert vllm == ("yes" if capability in VLLM else "–")


def test_the_table_has_no_other_rows() -> None:
    assert len(ROWS) == len(Capability)


def test_the_configuration_of_the_routing_page_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "routing.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    path = tmp_path / "shown.yaml"
    path.write_text(block, encoding="utf-8")
    (route,) = load(path, {"PROVIDER_KEY": "sk-a-key-that-is-long-enough"}).routes
    assert route.canary is not None
    assert (route.truncate, route.canary.percent, route.resume.enabled) == ("oldest", 10, True)
