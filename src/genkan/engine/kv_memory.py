"""How many KV blocks there are."""

import logging
import os
from pathlib import Path
from typing import Protocol

from genkan.engine.config import EngineConfig
from genkan.errors import ConfigError

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_GPU_DRIVER = Path("/proc/driver/nvidia/version")
_log = logging.getLogger("genkan.engine")


DEFAULT_SHARE = 0.1


class KvShape(Protocol):
    """What a token's keys and values take; a DecoderShape is one."""

    @property
    def layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


def check_memory(config: EngineConfig) -> None:
    """Raises ConfigError when there is not as much memory as ``kv_memory_bytes`` asks for.

    A GPU's is not looked at here: that takes torch, and is done when the model is loaded.
    """
    if config.device == "cuda" or (config.device == "auto" and _GPU_DRIVER.exists()):
        return
    usable = usable_memory_bytes()
    if (config.kv_memory_bytes or 0) > usable:
        raise ConfigError(
            "engine.kv_memory_bytes",
            f"must be less than the memory that the process may use, {usable}; given: {config.kv_memory_bytes}",
        )


def token_bytes(shape: KvShape, *, bf16: bool) -> int:
    """Memory of one token's keys and values, in all layers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * (2 if bf16 else 4)


def num_blocks(config: EngineConfig, shape: KvShape, window: int, *, bf16: bool) -> int:
    """KV blocks that the configured memory holds, at least one.

    Says so when a single sequence cannot have the whole ``window``, in tokens.
    """
    kv_bytes = config.kv_memory_bytes or int((config.kv_memory_share or DEFAULT_SHARE) * usable_memory_bytes())
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
