"""Our attention as transformers calls it: from within its modules, which know nothing of pages or steps.

Which cache and which step are meant is looked up by the module that calls. A model's first pass, of one token, only
notes which modules call, in which order, and refuses what they ask for and we do not do.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from genkan.engine.attention.paged import PagedAttention
from genkan.engine.torch_batch import TorchBatch
from genkan.errors import ModelFileError

_NOT_DONE = ("softcap", "s_aux", "position_bias", "attn_bias", "sinks", "head_mask", "indices")


class Pages:
    """Where one model's attention finds its KV cache and the step.

    ``kv`` is as TorchModel's; while there is none, callers are noted: ``num_callers`` of them. ``shapes`` has their
    numbers of KV heads and sizes of a head.
    """

    def __init__(self, attention: PagedAttention) -> None:
        self.kv: torch.Tensor | None = None
        self.batch: TorchBatch | None = None
        self.shapes: set[tuple[int, int]] = set()
        self._attention = attention
        self._place: dict[int, int] = {}  # a module's layer, by its id: the model keeps it alive

    @property
    def num_callers(self) -> int:
        return len(self._place)

    def serve(self, model: nn.Module) -> None:
        """Be the pages of all of the model's modules."""
        for module in model.modules():
            _PAGES[module] = self

    def note(
        self,
        module: nn.Module,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        others: dict[str, Any],
    ) -> None:
        """Remember who calls. Raises ModelFileError for what cannot be done."""
        name = type(module).__name__
        if asked := [option for option in _NOT_DONE if others.get(option) is not None]:
            raise refusal(name, f"it wants {', '.join(asked)}")
        if attention_mask is not None:
            raise refusal(name, "it has a mask of its own")
        if others.get("is_causal", getattr(module, "is_causal", True)) is False:
            raise refusal(name, "it is not causal")
        if key.shape != value.shape:
            raise refusal(name, "its keys and values differ in shape")
        if id(module) in self._place:
            raise refusal(name, "a layer of it attends twice")
        self._place[id(module)] = len(self._place)
        self.shapes.add((key.shape[1], key.shape[3]))

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Write the step's keys and values to the module's pages, and attend over them; ``[rows, heads, head_dim]``."""
        if self.kv is None or self.batch is None:
            raise RuntimeError("attention is called outside a step")
        keys, values = self.kv[self._place[id(module)]]
        keys[self.batch.slots], values[self.batch.slots] = key[0].transpose(0, 1), value[0].transpose(0, 1)
        queries = query[0].transpose(0, 1).contiguous()
        return self._attention(queries, keys, values, self.batch, scale=scale, window=window)


_PAGES: WeakKeyDictionary[nn.Module, Pages] = WeakKeyDictionary()


def paged_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls: ``[1, heads, rows, head_dim]`` in, ``[1, rows, heads, head_dim]`` out."""
    pages = _PAGES[module]
    if pages.kv is None:
        pages.note(module, key, value, attention_mask, others)
        return query.transpose(1, 2), None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return pages.attend(module, query, key, value, scale=scale, window=sliding_window)[None], None


def refusal(name: str, why: str) -> ModelFileError:
    """What is said of the architecture, or the part of one, that cannot run over pages."""
    return ModelFileError(f"{name} cannot run with paged attention: {why}")
