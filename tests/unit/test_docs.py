"""What the docs say is what the code says."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genkan
from genkan.batching.record import BatcherStatistics
from genkan.config import load
from genkan.engine.client import Capability
from genkan.engine.vllm_words import capabilities
from genkan.model_servers.command import command
from genkan.rate_limiter import RateLimiterStatistics
from genkan.token_streamer import StreamStatistics

#: What the library's classes tell of themselves, beside their methods.
STATISTICS = (
    BatcherStatistics(**dict.fromkeys(BatcherStatistics.__dataclass_fields__, 0)),
    StreamStatistics(**dict.fromkeys(StreamStatistics.__dataclass_fields__, 0)),
    RateLimiterStatistics(accepted=0, rejected=0, clients=0),
)

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


def test_the_reference_of_settings_is_what_its_script_writes() -> None:
    script = DOCS.parent / "scripts" / "config_reference.py"
    written = subprocess.run([sys.executable, script, "--print"], capture_output=True, text=True, check=True).stdout
    assert written == (DOCS / "configuration.md").read_text(encoding="utf-8"), "make docs"


@pytest.mark.parametrize("name", ["DynamicBatcher", "TokenStreamer", "RateLimiter"])
def test_what_the_notes_of_migration_name_is_there(name: str) -> None:
    notes = (DOCS / "migration.md").read_text(encoding="utf-8")
    part = notes.split(f"→ `genkan.{name}`")[1].split("\n### ")[0]
    cells = [row.split(" | ")[1] for row in part.splitlines() if row.startswith("| `") and "vietnamese_ai" not in row]
    assert len(cells) >= 8
    made = getattr(genkan, name)
    words = {word for cell in cells for word in re.findall(r"(?<![A-Za-z0-9_])([a-z][a-z0-9_]+)(?=[(=]|`)", cell)}
    own = set(dir(made)) | set(inspect.signature(made).parameters)
    statistics = {field for record in STATISTICS for field in dir(record) if not field.startswith("_")}
    assert words - own - statistics <= {"with", "aclose", "token_bucket", "sliding_window"}


def test_the_configuration_of_the_gpu_page_is_one_and_its_table_has_every_flag(tmp_path: Path) -> None:
    page = (DOCS / "gpu.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.M | re.S)
    path = tmp_path / "shown.yaml"
    path.write_text(block, encoding="utf-8")
    (upstream,) = load(path, {}).openai_upstreams
    assert upstream.serve is not None
    for kind in ("vllm", "sglang"):
        flags = {word for word in command(kind, upstream.serve, ("m",), 8000) if word.startswith("--")}
        named = {flag.replace("--enable", "--[no-]enable") for flag in flags - {"--host", "--port"}}
        assert all(flag in page or flag.replace("[no-]", "") in page for flag in named)
