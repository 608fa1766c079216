"""The loaded model: its file, its KV memory, and the forward pass that fits this machine."""

import ctypes
import logging
import os
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genkan.engine.batch import TOKENS_PER_TILE, Batch, BatchItem, Forward
from genkan.engine.config import EngineConfig
from genkan.engine.kernel_model import KernelModel, fits_kernels
from genkan.engine.kernels import build, library
from genkan.engine.kv_memory import KvShape, num_blocks, token_bytes
from genkan.engine.load.source import locate
from genkan.engine.models.decoder import Decoder
from genkan.engine.models.opened import opened
from genkan.engine.torch_model import TorchModel
from genkan.errors import ModelFileError

_log = logging.getLogger("genkan.engine")


class ModelRunner:
    """A Runner: a model in memory. Used by one thread at a time.

    ``path`` is its file or folder, ``metadata`` the key-values of a GGUF file (nothing for a folder). ``kernels`` and
    ``dtype`` say what computes, on ``device``. ``max_model_len`` is the window in tokens; ``num_blocks``,
    ``block_size`` and ``token_bytes`` say how large the paged KV cache is.
    """

    def __init__(self, config: EngineConfig) -> None:
        """Load it. Raises ModelFileError; ConfigError on a GPU that is too small.

        Cost: about half a second for 135 M parameters; it blocks.
        """
        began = time.monotonic()
        self.path: Path = locate(config.model)
        self.device = _device(config)
        self.block_size: int = config.block_size
        self.threads = config.threads or len(os.sched_getaffinity(0))
        self.metadata: dict[str, Any]
        decoder, self.metadata = opened(self.path)
        if decoder is None:
            self._forward: Forward = self._by_transformers(config)
        else:
            self.digest, self.vocab_size = decoder.digest, decoder.shape.vocab_size
            self.max_model_len = _max_model_len(config, decoder.shape.context_length)
            load = self._on_gpu if self.device.type == "cuda" else self._on_processor
            self._forward = load(config, decoder)
            self.token_bytes = token_bytes(decoder.shape, bf16=self.dtype.itemsize == 2)
        # Beside the kernels torch has little to do, and a second thread costs more to wake than it saves.
        torch.set_num_threads(self.threads if self.device.type == "cpu" and self.kernels != "c" else 1)
        _log.info(
            "loaded %s in %.1f s: %s, %s kernels, %d threads, KV memory for %d tokens",
            config.model, time.monotonic() - began, str(self.dtype).removeprefix("torch."), self.kernels, self.threads,
            self.num_blocks * self.block_size,
        )  # fmt: skip

    @property
    def bf16(self) -> bool:
        """Whether products are taken in bfloat16."""
        return self.dtype is torch.bfloat16

    @property
    def num_host_blocks(self) -> int:
        """Blocks that preempted sequences may have in the machine's memory beside a GPU's; 0 without swapping."""
        return int(getattr(self._forward, "num_host_blocks", 0))

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        """Compute the items' new tokens and write their KV.

        Logits, float32 ``[outputs of all items, vocab]``, in the items' order. Raises MemoryError.
        """
        batch = Batch.of(items, self.block_size // TOKENS_PER_TILE)
        return self._forward.forward(batch)

    def copy_out(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """See Swaps; only where ``num_host_blocks`` are some."""
        self._forward.copy_out(blocks=blocks, host_blocks=host_blocks)  # type: ignore[attr-defined]  # of a GpuModel, which has them

    def copy_in(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """See Swaps; only where ``num_host_blocks`` are some."""
        self._forward.copy_in(blocks=blocks, host_blocks=host_blocks)  # type: ignore[attr-defined]  # as above

    @property
    def weight_bytes(self) -> int:
        """Weights that a decode step reads; 0 where that is not known."""
        return int(getattr(self._forward, "weight_bytes", 0))

    def device_memory(self) -> dict[str, int]:
        """Bytes of the GPU's memory by kind, see ``gpu_memory``; nothing on a processor."""
        if self.device.type != "cuda":
            return {}
        from genkan.engine.gpu.gpu_memory import gpu_memory

        return gpu_memory(self.device)

    def check(self) -> None:
        """Compute one token, in block 0. Raises ModelFileError for weights that give no numbers."""
        logits = self.forward([BatchItem(array("i", [0]), 0, array("i", [0]), 1)])
        if not torch.isfinite(logits).all():
            raise ModelFileError("the model's weights are damaged: its first logits are not numbers")

    def _on_processor(self, config: EngineConfig, decoder: Decoder) -> Forward:
        self.dtype = _processor_dtype(config)
        self.num_blocks = num_blocks(config, decoder.shape, self.max_model_len, bf16=self.bf16)
        tiles = self.num_blocks * (self.block_size // TOKENS_PER_TILE)
        positions = min(self.max_model_len, self.num_blocks * self.block_size)  # further on there is no KV memory
        compiled = _kernels(config, decoder)
        if compiled is None:
            self.kernels = "torch"
            return TorchModel(decoder, dtype=self.dtype, positions=positions, tiles=tiles)
        self.kernels = "c"
        return KernelModel(compiled, decoder, bf16=self.bf16, positions=positions, tiles=tiles, threads=self.threads)

    def _on_gpu(self, config: EngineConfig, decoder: Decoder) -> Forward:
        from genkan.engine.gpu.gpu_model import GpuModel  # here, because few machines have a GPU

        model = GpuModel(decoder, config, self.max_model_len)
        self.dtype, self.kernels, self.num_blocks = model.dtype, model.kernels, model.num_blocks
        return model

    def _by_transformers(self, config: EngineConfig) -> Forward:
        from genkan.engine.transformers_model import TransformersModel

        if config.kernels in ("c", "triton"):
            raise ModelFileError(f"engine.kernels is {config.kernels}, and there are none for this model")
        on_gpu = self.device.type == "cuda"
        self.dtype = _fallback_gpu_dtype(config) if on_gpu else _processor_dtype(config)
        model = TransformersModel(self.path, dtype=self.dtype, device=self.device)
        self.kernels, self.digest, self.vocab_size = "torch", model.digest, model.vocab_size
        self.token_bytes = token_bytes(model.shape, bf16=self.dtype.itemsize == 2)
        self.max_model_len = _max_model_len(config, model.context_length)
        if on_gpu:
            self.num_blocks = _gpu_blocks(config, model.shape, self.dtype, self.device)
        else:
            self.num_blocks = num_blocks(config, model.shape, self.max_model_len, bf16=self.bf16)
        model.allocate(self.num_blocks * (self.block_size // TOKENS_PER_TILE))
        return model


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is emulated, slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def _device(config: EngineConfig) -> torch.device:
    has_gpu = config.device != "cpu" and torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ModelFileError("engine.device is cuda, and torch sees no GPU")
    if config.preemption == "swap" and not has_gpu:
        raise ModelFileError(
            "engine.preemption is swap, which is for a GPU: blocks lie in the machine's memory already"
        )
    if config.kernels == ("c" if has_gpu else "triton"):
        raise ModelFileError(f"engine.kernels is {config.kernels}, which is not for {'a GPU' if has_gpu else 'a CPU'}")
    return torch.device("cuda" if has_gpu else "cpu")


def _processor_dtype(config: EngineConfig) -> torch.dtype:
    return torch.bfloat16 if config.profile == "fast" and multiplies_bf16() else torch.float32


def _fallback_gpu_dtype(config: EngineConfig) -> torch.dtype:
    if config.profile == "exact":
        return torch.float32
    return torch.float16 if config.dtype == "float16" else torch.bfloat16


def _gpu_blocks(config: EngineConfig, shape: KvShape, dtype: torch.dtype, device: torch.device) -> int:
    """KV blocks beside a model of transformers', whose largest step is not measured: a quarter is left for it."""
    from genkan.engine.gpu.gpu_memory import kv_budget_bytes

    free, _ = torch.cuda.mem_get_info(device)
    budget = kv_budget_bytes(free=free, step=free // 4, share=config.kv_memory_share, wanted=config.kv_memory_bytes)
    return max(budget // (config.block_size * token_bytes(shape, bf16=dtype.itemsize == 2)), 1)


def _kernels(config: EngineConfig, model: Decoder) -> ctypes.CDLL | None:
    """The compiled kernels, or None where torch is to do the work. Raises ModelFileError when only they will do."""
    if config.kernels == "torch":
        return None
    compiled = _loaded_library() if fits_kernels(model) else None
    if compiled is not None:
        return compiled
    if config.kernels == "c":
        raise ModelFileError("engine.kernels is c, and there are none for this machine and this model")
    return None


def _loaded_library() -> ctypes.CDLL | None:
    path = build.built()
    try:
        return None if path is None else library.load(path)
    except (OSError, AttributeError) as error:  # damaged, or where nothing may be executed
        _log.warning("the engine's C kernels %s cannot be loaded, torch does their work, slower: %s", path, error)
        return None


def _max_model_len(config: EngineConfig, own: int) -> int:
    wanted = config.max_model_len or own
    if wanted > own:
        raise ModelFileError(f"engine.max_model_len must be at most the model's own {own}; given: {wanted}")
    return wanted
