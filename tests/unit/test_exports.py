"""What ``genkan`` exports, and what it costs to import it."""

import subprocess
import sys

import pytest

import genkan
from genkan.dynamic_batcher import DynamicBatcher
from genkan.rate_limiter import RateLimiter
from genkan.token_streamer import TokenStreamer


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after ``statement``."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def test_exports_these_names_and_no_other() -> None:
    assert genkan.__all__ == ["DynamicBatcher", "RateLimiter", "TokenStreamer", "__version__"]
    assert genkan.DynamicBatcher is DynamicBatcher
    assert genkan.RateLimiter is RateLimiter
    assert genkan.TokenStreamer is TokenStreamer


def test_every_export_is_there_and_listed() -> None:
    assert set(genkan.__all__) <= set(dir(genkan))
    assert all(getattr(genkan, name) for name in genkan.__all__)


def test_a_star_import_brings_the_exports() -> None:
    names: dict[str, object] = {}
    exec("from genkan import *", names)
    assert set(genkan.__all__) == set(names) - {"__builtins__"}


def test_what_is_not_exported_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'genkan' has no attribute 'Tokenstreamer'"):
        _ = genkan.Tokenstreamer  # type: ignore[attr-defined]


def test_importing_the_package_loads_no_submodule() -> None:
    # A Bento's service drops the installed package in favour of its own; that is safe while nothing else is loaded.
    assert {name for name in loaded_by("import genkan") if name.startswith("genkan")} == {"genkan"}


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("DynamicBatcher", "dynamic_batcher"),
        ("RateLimiter", "rate_limiter"),
        ("TokenStreamer", "token_streamer"),
    ],
)
def test_no_export_loads_anything_heavy(name: str, module: str) -> None:
    loaded = loaded_by(f"from genkan import {name}")
    assert f"genkan.{module}" in loaded
    assert not loaded & {"torch", "transformers", "bentoml", "starlette", "aiohttp", "pydantic", "tokenizers", "redis"}
