"""What can be known of the GPU's model without a GPU: the step by which its memory is measured."""

from pathlib import Path

import torch
from tiny_llama import TinyLlama

from genkan.engine.config import EngineConfig
from genkan.engine.gpu.gpu_model import largest_batch
from genkan.engine.scheduler import MAX_SCORED_TOKENS
from genkan.engine.torch_model import TorchModel

CPU = torch.device("cpu")


def test_the_largest_step_can_be_computed_where_the_window_is_shorter(tmp_path: Path) -> None:
    """On a GPU a position beyond the model's angles would be an assertion there, and the end of the process."""
    config = EngineConfig(max_sequences=8, max_batched_tokens=96)
    model = TorchModel(TinyLlama(kind="F32").read(tmp_path), positions=32, tiles=6)
    batch = largest_batch(config, 32, CPU)
    assert model.step(batch).isfinite().all()
    assert len(batch.ids) == batch.longest == 96


def test_the_largest_step_has_all_the_logits_that_one_may_have() -> None:
    config = EngineConfig(max_sequences=8, max_batched_tokens=96)
    assert len(largest_batch(config, 32, CPU).output_row) == 8 + MAX_SCORED_TOKENS
    few = EngineConfig(max_sequences=8, max_batched_tokens=16)
    assert len(largest_batch(few, 32, CPU).output_row) == 16  # a row has logits once
