"""What the docs say is what the code says."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

import genkan
from genkan.batching.record import BatcherStatistics
from genkan.cli import main as cli
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
ROOT = DOCS.parent
#: What people wrote, by name: the reference of settings is generated.
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (*DOCS.glob("*.md"), *ROOT.glob("*.md"))
    if path.name != "configuration.md"
}
SCHEMA: Mapping[str, Any] = json.loads((ROOT / "configs" / "schema.json").read_text(encoding="utf-8"))
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


def settings(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a section, of a list of sections, or of any of several."""
    if "$ref" in schema:
        return settings(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else ())]
    own: dict[str, Any] = schema.get("properties", {})
    return own | {name: found for part in parts for name, found in settings(part).items()}


def is_setting(path: str) -> bool:
    found: Mapping[str, Any] = SCHEMA
    for name in path.replace("[]", "").split("."):
        if name not in (known := settings(found)):
            return False
        found = known[name]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_a_page_names_by_its_path_is_there(page: str) -> None:
    files = {"keys.seen"}
    named = set(re.findall(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+)(?:: [^`]*)?`", PAGES[page])) - files
    ours = {path for path in named if path.partition(".")[0].replace("[]", "") in settings(SCHEMA)}
    assert {path for path in ours if not is_setting(path)} == set()


def test_pages_name_settings() -> None:
    assert is_setting("upstreams[].serve.start_timeout_s")
    assert not is_setting("server.drain.patience_s")
    assert sum(len(re.findall(r"`(?:server|routes\[\]|redis)\.", text)) for text in PAGES.values()) > 20


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_a_page_names_is_in_the_catalog(page: str) -> None:
    catalog = (ROOT / "src" / "genkan" / "telemetry" / "catalog.py").read_text(encoding="utf-8")
    known = set(re.findall(r'"((?:genkan|gen_ai)_[a-z_]+)"', catalog))
    kinds = r"total|seconds|bytes|tokens|state|up|ratio|info|connections|requests|usage"
    named = set(re.findall(rf"`((?:genkan|gen_ai)_[a-z_]*_(?:{kinds}))\b", PAGES[page]))
    assert {name for name in named if name not in known and name.removesuffix("_total") not in known} == set()


def code(page: str) -> list[str]:
    """The lines of code of a page, and what stands in its lines as code."""
    fences = re.findall(r"^```[a-z]*\n(.*?)^```", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    return [*(line for fence in fences for line in fence.splitlines()), *re.findall(r"`([^`\n]+)`", rest)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_a_page_names_is_there_with_its_options(page: str) -> None:
    for line in code(page):
        if called := re.match(r"(?:\$ )?(?:\S*/)?genkan ([a-z][^#]*)", line):
            words = called[1].split()
            command: click.Command | None = cli
            while isinstance(command, click.Group) and words and "|" not in words[1:2]:
                command = command.get_command(click.Context(command), words.pop(0))
            assert command is not None, line
            if not isinstance(command, click.Group):
                options = {option for known in command.params for option in (*known.opts, *known.secondary_opts)}
                assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} - {"--help"} <= options, line


@pytest.mark.parametrize("page", PAGES)
def test_every_heading_a_page_links_to_is_there(page: str) -> None:
    folder = ROOT if (ROOT / page).exists() else DOCS
    for target, heading in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", PAGES[page]):
        if not target.startswith("http"):
            text = (folder / target if target else folder / page).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, (page, target, heading)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_ours_a_page_names_is_there(page: str) -> None:
    made = {"bench/out", "k6/out", "configs/mine.yaml"}
    named = set(
        re.findall(r"`((?:src|tests|configs|k6|deploy|docker|scripts|requirements|bench)/[\w./-]*\w)`", PAGES[page])
    )
    assert {name for name in named if not (ROOT / name).exists() and not name.startswith(tuple(made))} == set()
