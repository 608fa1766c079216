"""How many KV blocks the configured memory holds."""

import logging
import os
from pathlib import Path

import pytest

from genkan.engine import kv_memory
from genkan.engine.config import EngineConfig
from genkan.engine.kv_memory import check_memory, num_blocks, token_bytes, usable_memory_bytes
from genkan.engine.transformers_model import AttentionShape
from genkan.errors import ConfigError

MB = 1 << 20
SHAPE = AttentionShape(layers=4, kv_heads=2, head_dim=32)
TOKEN_BYTES = 2 * 4 * 2 * 32 * 4  # keys and values, layers, KV heads, head size, float32


def in_blocks(window: int = 512, *, bf16: bool = False, **settings: object) -> int:
    return num_blocks(EngineConfig.model_validate(settings), SHAPE, window, bf16=bf16)


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where a container's limits would be; neither file is there yet."""
    paths = (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    monkeypatch.setattr(kv_memory, "_CGROUP_LIMITS", paths)
    return paths


def test_a_token_takes_keys_and_values_in_every_layer() -> None:
    assert token_bytes(SHAPE, bf16=False) == TOKEN_BYTES
    assert token_bytes(SHAPE, bf16=True) == TOKEN_BYTES // 2


@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
def test_whole_blocks_fill_the_memory_that_is_given(block_size: int) -> None:
    assert in_blocks(kv_memory_bytes=3 * MB, block_size=block_size) == 3 * MB // (TOKEN_BYTES * block_size)
    assert in_blocks(kv_memory_bytes=3 * MB + 1, block_size=block_size) == 3 * MB // (TOKEN_BYTES * block_size)


def test_bfloat16_has_twice_the_blocks() -> None:
    assert in_blocks(kv_memory_bytes=MB, bf16=True) == 2 * in_blocks(kv_memory_bytes=MB)


def test_a_share_is_of_the_memory_there_is(limits: tuple[Path, Path]) -> None:
    limits[0].write_text(f"{64 * MB}\n")
    assert in_blocks(kv_memory_share=0.25) == 16 * MB // (TOKEN_BYTES * 16)


def test_bytes_go_before_the_share() -> None:
    assert in_blocks(kv_memory_share=0.9, kv_memory_bytes=MB) == in_blocks(kv_memory_bytes=MB)


def test_there_is_one_block_at_least() -> None:
    huge = SHAPE._replace(layers=1000, head_dim=1024)
    assert num_blocks(EngineConfig(kv_memory_bytes=MB), huge, 16, bf16=False) == 1


def test_less_than_the_window_is_said(caplog: pytest.LogCaptureFixture) -> None:
    blocks = in_blocks(window=10_000, kv_memory_bytes=2 * MB)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    expected = f"2 MB of KV memory hold {blocks * 16} tokens, fewer than the window of 10000"
    assert expected in record.getMessage()


def test_as_much_as_the_window_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    blocks = in_blocks(kv_memory_bytes=MB)
    caplog.clear()
    in_blocks(window=blocks * 16, kv_memory_bytes=MB)
    assert not caplog.records


@pytest.mark.usefixtures("limits")
def test_without_a_container_the_memory_is_the_machines() -> None:
    assert usable_memory_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("version", [0, 1], ids=["cgroup v2", "cgroup v1"])
def test_a_containers_limit_counts(limits: tuple[Path, Path], version: int) -> None:
    limits[version].write_text(f"{64 * MB}\n")
    assert usable_memory_bytes() == 64 * MB


@pytest.mark.parametrize("text", ["max\n", f"{1 << 62}\n", ""])
def test_a_limit_that_is_none_does_not_count(limits: tuple[Path, Path], text: str) -> None:
    machine = usable_memory_bytes()
    limits[0].write_text(text)
    assert usable_memory_bytes() == machine


def test_more_memory_than_there_is_stops_the_start() -> None:
    check_memory(EngineConfig())
    check_memory(EngineConfig(kv_memory_bytes=usable_memory_bytes()))
    with pytest.raises(ConfigError, match=rf"engine\.kv_memory_bytes: must be less than .*given: {1 << 60}"):
        check_memory(EngineConfig(kv_memory_bytes=1 << 60))
