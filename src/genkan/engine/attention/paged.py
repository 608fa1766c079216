"""What a forward pass asks of attention."""

from typing import Protocol

import torch

from genkan.engine.torch_batch import TorchBatch


class PagedAttention(Protocol):
    """Causal attention of a step's new tokens over everything that their sequences have in the KV cache."""

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        batch: TorchBatch,
        *,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """``[rows, heads, head_dim]``, as ``queries`` are.

        ``keys`` and ``values`` are one layer's caches, ``[slots, kv_heads, head_dim]``, in which the new tokens' are
        already; ``heads`` is a multiple of ``kv_heads``. Products of queries and keys are multiplied by ``scale``. A
        token sees ``window`` tokens, itself among them; None: all.
        """
