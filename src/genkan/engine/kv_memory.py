"""How many KV blocks there are."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from genkan.engine.config import EngineConfig
from genkan.errors import ConfigError

if TYPE_CHECKING:  # it brings torch in, which a check at start-up does without
    from genkan.engine.models.decoder import DecoderShape

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_log = logging.getLogger("genkan.engine")


def check_memory(config: EngineConfig) -> None:
    """Raises ConfigError when there is not as much memory as ``kv_memory_bytes`` asks for."""
    usable = usable_memory_bytes()
    if (config.kv_memory_bytes or 0) > usable:
        raise ConfigError(
            "engine.kv_memory_bytes",
            f"must be less than the memory that the process may use, {usable}; given: {config.kv_memory_bytes}",
        )


def token_bytes(shape: "DecoderShape", *, bf16: bool) -> int:
    """Memory of one token's keys and values, in all layers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * (2 if bf16 else 4)


def num_blocks(config: EngineConfig, shape: "DecoderShape", window: int, *, bf16: bool) -> int:
    """KV blocks that the configured memory holds, at least one.

    Says so when a single sequence cannot have the whole ``window``, in tokens.
    """
    kv_bytes = config.kv_memory_bytes or int(config.kv_memory_share * usable_memory_bytes())
    block_bytes = config.block_size * token_bytes(shape, bf16=bf16)
    blocks = max(kv_bytes // block_bytes, 1)
    if blocks * config.block_size < window:
        _log.warning(
            "%d MB of KV memory hold %d tokens, fewer than the window of %d: longer requests are refused",
            kv_bytes >> 20, blocks * config.block_size, window,
        )  # fmt: skip
    return int(blocks)


def usable_memory_bytes() -> int:
    """The machine's memory, or the container's limit where that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(sizes)
