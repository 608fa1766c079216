"""The forward pass on one GPU: torch's products, our attention over pages, decodes as CUDA graphs.

KV memory is what the weights and the largest step leave free; that step is run once, before there is any KV, to see
what it takes.
"""

import logging
from collections.abc import Sequence

import torch

from genkan.engine.attention.gather import GatherAttention
from genkan.engine.attention.paged import PagedAttention
from genkan.engine.batch import TOKENS_PER_TILE, Batch
from genkan.engine.config import EngineConfig
from genkan.engine.device_sampler import lowest_best
from genkan.engine.gpu.decode_graphs import SIZES, CudaCapture, DecodeGraphs
from genkan.engine.gpu.gpu_memory import kv_budget_bytes
from genkan.engine.gpu.swap_space import SwapSpace
from genkan.engine.kv_memory import token_bytes
from genkan.engine.models.decoder import Decoder
from genkan.engine.scheduler import MAX_SCORED_TOKENS
from genkan.engine.torch_batch import TorchBatch
from genkan.engine.torch_model import TorchModel
from genkan.errors import ConfigError

_log = logging.getLogger("genkan.engine")


class GpuModel:
    """A Forward and, with preemption ``swap``, a Swaps. Used by one thread at a time.

    Logits stay on the GPU: the sampler takes from there what it needs.
    """

    def __init__(self, decoder: Decoder, config: EngineConfig, window: int) -> None:
        """Load the weights and take the KV memory, for sequences of up to ``window`` tokens.

        Raises ConfigError when the GPU has too little memory, ModelFileError for damaged weights.
        """
        self._device = device = torch.device("cuda", torch.cuda.current_device())
        self.dtype = compute_dtype(config, decoder)
        self.kernels, attention = _attention(config, device)
        self._block_tiles = config.block_size // TOKENS_PER_TILE
        # As many tiles as the largest step writes, to measure it.
        step_tiles = -(-max(config.max_batched_tokens, config.max_sequences) // TOKENS_PER_TILE) + 1
        self._model = TorchModel(
            decoder, positions=window, tiles=step_tiles, dtype=self.dtype, device=device, attention=attention
        )
        step_bytes = self._largest_step_bytes(config, window)
        free, _ = torch.cuda.mem_get_info(device)
        budget = kv_budget_bytes(
            free=free, step=step_bytes, share=config.kv_memory_share, wanted=config.kv_memory_bytes
        )
        self.num_blocks = max(budget // self._block_bytes(config), 1)
        # One tile more than there are blocks: it pads the graphs' batches.
        spare_tile = self.num_blocks * self._block_tiles
        self._model.resize(spare_tile + self._block_tiles)
        self._graphs: DecodeGraphs | None = None
        if config.cuda_graphs and self.kernels == "triton":
            self._graphs = self._captured(config, window, spare_tile)
        self._swap: SwapSpace | None = None
        if config.preemption == "swap":
            host_blocks = config.swap_bytes // self._block_bytes(config)
            self._swap = SwapSpace(self._model.kv, config.block_size, host_blocks)
        _log.info(
            "%s: %s, %s attention, %d MB for KV, %s", torch.cuda.get_device_name(device),
            str(self.dtype).removeprefix("torch."), self.kernels, budget >> 20,
            "decodes as graphs" if self._graphs else "no graphs",
        )  # fmt: skip

    @property
    def num_host_blocks(self) -> int:
        """Blocks that preempted sequences may have in the machine's memory; 0 without swapping."""
        return 0 if self._swap is None else self._swap.num_blocks

    @property
    def weight_bytes(self) -> int:
        """Weights that a decode step reads."""
        return self._model.weight_bytes

    @torch.inference_mode()
    def forward(self, batch: Batch) -> torch.Tensor:
        """See Forward, but the logits, float32, are on the GPU. Raises MemoryError."""
        try:
            if self._graphs is not None and self._graphs.takes(batch):
                return self._graphs.forward(batch)
            return self._model.step(TorchBatch.of(batch, self._device)).float()
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(f"a step of {len(batch.ids)} tokens does not fit into the GPU: {error}") from None

    def copy_out(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """See Swaps."""
        assert self._swap is not None
        self._swap.copy_out(blocks, host_blocks)

    def copy_in(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """See Swaps."""
        assert self._swap is not None
        self._swap.copy_in(blocks, host_blocks)

    def _block_bytes(self, config: EngineConfig) -> int:
        return config.block_size * token_bytes(self._model.shape, bf16=self.dtype.itemsize == 2)

    def _largest_step_bytes(self, config: EngineConfig, window: int) -> int:
        """What a step takes beside weights and KV: all tokens that there may be, and all logits, sampled."""
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        with torch.inference_mode():
            logits = self._model.step(largest_batch(config, window, self._device)).float()
            lowest_best(logits[torch.arange(len(logits), device=self._device)])  # as where some are a prompt's
            del logits
        torch.cuda.synchronize(self._device)
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.empty_cache()
        return peak - before

    def _captured(self, config: EngineConfig, window: int, spare_tile: int) -> DecodeGraphs:
        sizes = [size for size in SIZES if size < config.max_sequences]
        sizes.append(min(SIZES[-1], config.max_sequences))
        with torch.inference_mode():
            return DecodeGraphs(
                self._model.step,
                CudaCapture(),
                sizes=sorted(set(sizes)),
                widest=-(-window // TOKENS_PER_TILE),
                vocab_size=self._model.shape.vocab_size,
                spare_tile=spare_tile,
                device=self._device,
            )


def compute_dtype(config: EngineConfig, decoder: Decoder) -> torch.dtype:
    """What is multiplied in: float32 for profile exact, else what the configuration or the file says.

    Raises ConfigError for bfloat16 on a GPU that has none.
    """
    if config.profile == "exact":
        return torch.float32
    has_bf16 = torch.cuda.is_bf16_supported()
    if config.dtype == "bfloat16" and not has_bf16:
        raise ConfigError("engine.dtype", "this GPU does not multiply bfloat16; float16 is the other")
    if config.dtype == "float16" or not has_bf16:
        return torch.float16
    in_file = decoder.layer(0).out.tensor.kind
    return torch.float16 if config.dtype == "auto" and in_file == "F16" else torch.bfloat16


def _attention(config: EngineConfig, device: torch.device) -> tuple[str, PagedAttention]:
    if config.kernels in ("auto", "triton"):
        try:
            from genkan.engine.attention.triton_attention import TritonAttention
        except ImportError:
            if config.kernels == "triton":
                raise ConfigError(
                    "engine.kernels", "triton is not installed; it comes with torch's CUDA build"
                ) from None
            _log.warning("Triton is not installed: torch does attention's work, slower, and there are no CUDA graphs")
        else:
            return "triton", TritonAttention(torch.cuda.get_device_properties(device).multi_processor_count)
    return "torch", GatherAttention()


def largest_batch(config: EngineConfig, window: int, device: torch.device) -> TorchBatch:
    """As many tokens as a step may have, and as many logits: a row a sequence, and those of prompts that are scored.

    Positions stay within ``window``, though one sequence has all the tokens.
    """
    rows = max(config.max_batched_tokens, config.max_sequences)
    tiles = -(-rows // TOKENS_PER_TILE)
    place = torch.arange(rows, device=device)
    return TorchBatch(
        ids=torch.zeros_like(place),
        positions=place % window,
        slots=place,
        first_row=torch.tensor([0, rows], dtype=torch.int32, device=device),
        lengths=torch.tensor([rows], dtype=torch.int32, device=device),
        tables=torch.arange(tiles, dtype=torch.int32, device=device)[None],
        output_row=place[: config.max_sequences + MAX_SCORED_TOKENS],
        longest=rows,
        most_rows=rows,
    )
