"""How much of a GPU's memory KV blocks may take, and what it holds now."""

import torch

from genkan.errors import ConfigError

DEFAULT_SHARE = 0.9


def kv_budget_bytes(*, free: int, step: int, share: float | None, wanted: int | None) -> int:
    """Bytes for KV, of ``free`` bytes on a GPU that has the weights already and needs ``step`` for its largest step.

    ``wanted`` bytes, where they are there, or a ``share`` of what is left beside a step (None: nine tenths). Raises
    ConfigError when there is not as much. Pure.
    """
    left = free - step
    if wanted is not None:
        if wanted > left:
            raise ConfigError(
                "engine.kv_memory_bytes",
                f"must be at most what weights and a step leave free on the GPU, {max(left, 0)}; given: {wanted}",
            )
        return wanted
    budget = int((DEFAULT_SHARE if share is None else share) * left)
    if budget <= 0:
        raise ConfigError(
            "engine.max_batched_tokens",
            f"a step takes {step} bytes of the GPU's memory, and the weights leave {free}: it must be smaller",
        )
    return budget


def gpu_memory(device: torch.device) -> dict[str, int]:
    """Bytes of the GPU's memory by kind: in ``tensors`` of ours, ``reserved`` by us for them, ``free``, in ``total``.

    Cost: some microseconds and a call to the driver.
    """
    free, total = torch.cuda.mem_get_info(device)
    return {
        "tensors": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "free": free,
        "total": total,
    }
