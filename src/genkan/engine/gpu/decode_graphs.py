"""Decode steps as CUDA graphs: recorded once for some batch sizes, then replayed without a Python call a kernel.

A decode of a small model is hundreds of kernels of a few microseconds, and launching them takes longer than they do. A
graph has fixed shapes and addresses, so a batch is padded to the next size and copied into buffers that stay where they
are. What pads is a sequence of one token in a tile of its own, which nobody else has.

Source: "Accelerating PyTorch with CUDA Graphs" (pytorch.org) for capture into a shared pool, the largest size first.
"""

from collections.abc import Callable, Sequence

import torch

from genkan.engine.batch import TOKENS_PER_TILE, Batch
from genkan.engine.torch_batch import TorchBatch, padded_tables

Step = Callable[[], torch.Tensor]
#: Records what a call does on the device and gives what replays it; either returns the same tensor each time.
Capture = Callable[[Step], Step]

SIZES = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64)


class DecodeGraphs:
    """A forward pass for batches in which every sequence decodes, up to 64 of them."""

    def __init__(
        self,
        step: Callable[[TorchBatch], torch.Tensor],
        capture: Capture,
        *,
        sizes: Sequence[int],
        widest: int,
        vocab_size: int,
        spare_tile: int,
        device: torch.device,
    ) -> None:
        """Record ``step`` for each of ``sizes``, rising. Cost: about a second for all, and the memory of one step.

        ``widest``: tiles that the longest sequence has. ``spare_tile``: one that no sequence ever gets.
        """
        self._sizes, self._spare_tile = tuple(sizes), spare_tile
        most = self._sizes[-1]
        pinned = device.type == "cuda"
        self._host_long = torch.zeros(3, most, dtype=torch.int64, pin_memory=pinned)  # ids, positions, slots
        self._host_int = torch.zeros(most, 1 + widest, dtype=torch.int32, pin_memory=pinned)  # lengths, tables
        self._long = torch.zeros(3, most, dtype=torch.int64, device=device)
        self._int = torch.zeros(most, 1 + widest, dtype=torch.int32, device=device)
        self._lengths = torch.zeros(most, dtype=torch.int32, device=device)
        # A graph knows addresses only: whatever it reads or gives must live as long as it does, so all of it is here.
        self._first_row = torch.arange(most + 1, dtype=torch.int32, device=device)
        self._output_row = torch.arange(most, dtype=torch.int64, device=device)
        self._logits = torch.empty(most, vocab_size, dtype=torch.float32, device=device)
        self._pad_from(0, most)
        self._upload(most)
        self._replay = {size: capture(self._step_of(step, size, widest)) for size in reversed(self._sizes)}

    def takes(self, batch: Batch) -> bool:
        """Whether every sequence of ``batch`` has one new token, wants the next, and they are not too many."""
        return len(batch.ids) == len(batch.position) == len(batch.output_row) <= self._sizes[-1]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits, float32 ``[sequences, vocab]``, of a batch that it takes; the next call overwrites them."""
        count = len(batch.ids)
        size = next(size for size in self._sizes if size >= count)
        positions = torch.from_numpy(batch.position)
        tables = padded_tables(batch, batch.position + 1)
        tiles = torch.from_numpy(tables)
        own_tile = tiles.gather(1, (positions // TOKENS_PER_TILE).long()[:, None])[:, 0]
        ids, its_positions, slots = self._host_long
        ids[:count], its_positions[:count] = torch.from_numpy(batch.ids.copy()), positions
        slots[:count] = own_tile.long() * TOKENS_PER_TILE + positions % TOKENS_PER_TILE
        self._host_int[:count, 0] = positions + 1
        self._host_int[:count, 1 : 1 + tables.shape[1]] = tiles
        self._pad_from(count, size)
        self._upload(size)
        return self._replay[size]()[:count]

    def _step_of(self, step: Callable[[TorchBatch], torch.Tensor], size: int, widest: int) -> Step:
        batch = TorchBatch(
            ids=self._long[0, :size],
            positions=self._long[1, :size],
            slots=self._long[2, :size],
            first_row=self._first_row[: size + 1],
            lengths=self._lengths[:size],
            tables=self._int[:size, 1:],
            output_row=self._output_row[:size],
            longest=widest * TOKENS_PER_TILE,
            most_rows=1,
        )
        return lambda: self._logits[:size].copy_(step(batch))  # the sizes share it: a vocabulary a row is much

    def _pad_from(self, count: int, size: int) -> None:
        self._host_long[:2, count:size] = 0
        self._host_long[2, count:size] = self._spare_tile * TOKENS_PER_TILE
        self._host_int[count:size, 0] = 1
        self._host_int[count:size, 1] = self._spare_tile

    def _upload(self, size: int) -> None:
        self._long.copy_(self._host_long, non_blocking=True)
        self._int[:size].copy_(self._host_int[:size], non_blocking=True)
        self._lengths[:size].copy_(self._int[:size, 0])


class CudaCapture:
    """A Capture on the current GPU. All its graphs take their memory from one pool, as one runs at a time."""

    def __init__(self) -> None:
        self._pool: object = None

    def __call__(self, step: Step) -> Step:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # kernels are compiled and libraries set up by the first calls, not in a graph
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another model's engine may be at work in its thread, and "global" would forbid it to allocate meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # type: ignore[arg-type]  # None before the first
            out = step()
        self._pool = self._pool or graph.pool()

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return replay
