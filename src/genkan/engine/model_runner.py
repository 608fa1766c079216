"""The loaded model: its file, its KV memory, and the forward pass that fits this machine."""

import ctypes
import logging
import os
import time
from array import array

import torch

from genkan.engine.batch import TOKENS_PER_TILE, Batch, BatchItem, Forward
from genkan.engine.config import EngineConfig
from genkan.engine.kernel_model import KernelModel, fits_kernels
from genkan.engine.kernels import build, library
from genkan.engine.kv_memory import num_blocks
from genkan.engine.load import gguf
from genkan.engine.load.source import locate
from genkan.engine.models.decoder import Decoder
from genkan.engine.models.llama import LlamaFile
from genkan.engine.torch_model import TorchModel
from genkan.errors import ModelFileError

_log = logging.getLogger("genkan.engine")


class ModelRunner:
    """A model in memory. Used by one thread at a time.

    ``max_model_len`` is the window in tokens; ``num_blocks`` and ``block_size`` say how large the paged KV cache is.
    """

    def __init__(self, config: EngineConfig) -> None:
        """Load it. Raises ModelFileError. Cost: about half a second for 135 M parameters; it blocks."""
        began = time.monotonic()
        threads = config.threads or len(os.sched_getaffinity(0))
        model = LlamaFile(gguf.read(locate(config.model)))
        self.metadata = model.file.metadata
        self.digest = model.digest
        self.max_model_len = _max_model_len(config, model)
        self.block_size: int = config.block_size
        self.bf16 = config.profile == "fast" and multiplies_bf16()
        self.num_blocks = num_blocks(config, model.shape, self.max_model_len, bf16=self.bf16)
        self._tiles_per_block = config.block_size // TOKENS_PER_TILE
        self.kernels, self._forward = self._loaded(config, model, threads)
        # Beside the kernels torch has little to do, and a second thread costs more to wake than it saves.
        torch.set_num_threads(threads if self.kernels == "torch" else 1)
        _log.info(
            "loaded %s in %.1f s: %s, %s kernels, %d threads, KV memory for %d tokens",
            config.model, time.monotonic() - began, "bfloat16" if self.bf16 else "float32", self.kernels, threads,
            self.num_blocks * self.block_size,
        )  # fmt: skip

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        """Compute the items' new tokens and write their KV.

        Logits, float32 ``[items that want them, vocab]``, in the items' order. Raises MemoryError.
        """
        return self._forward.forward(Batch.of(items, self._tiles_per_block))

    def check(self) -> None:
        """Compute one token, in block 0. Raises ModelFileError for weights that give no numbers."""
        logits = self.forward([BatchItem(array("i", [0]), 0, array("i", [0]), wants_logits=True)])
        if not torch.isfinite(logits).all():
            raise ModelFileError("the model's weights are damaged: its first logits are not numbers")

    def _loaded(self, config: EngineConfig, model: Decoder, threads: int) -> tuple[str, Forward]:
        tiles = self.num_blocks * self._tiles_per_block
        compiled = _kernels(config, model)
        if compiled is None:
            return "torch", TorchModel(model, bf16=self.bf16, positions=self.max_model_len, tiles=tiles)
        return "c", KernelModel(
            compiled, model, bf16=self.bf16, positions=self.max_model_len, tiles=tiles, threads=threads
        )


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is emulated, slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


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


def _max_model_len(config: EngineConfig, model: Decoder) -> int:
    own = model.shape.context_length
    wanted = config.max_model_len or own
    if wanted > own:
        raise ModelFileError(f"engine.max_model_len must be at most the model's own {own}; given: {wanted}")
    return wanted
