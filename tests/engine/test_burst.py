"""A burst in a pool that is far too small; ``python -m engine.burst`` does it with the default model."""

from pathlib import Path

import pytest
from compiled_kernels import compiled_kernels
from engine.burst import both, requests_of
from forced_runs import token_ids
from running import one_torch_thread
from tiny_llama import TinyLlama

from genkan.engine.config import EngineConfig
from genkan.engine.model_runner import ModelRunner


@pytest.mark.parametrize(
    ("number", "settings"), [(200, {}), (60, {"prefix_cache": False}), (60, {"chunked_prefill": False})], ids=str
)
def test_a_burst_ends_as_if_there_were_room(tmp_path: Path, number: int, settings: dict[str, object]) -> None:
    compiled_kernels()  # so there is a compiler
    model = TinyLlama().written(tmp_path / "tiny.gguf")
    runner = ModelRunner(
        EngineConfig(model=str(model), profile="exact", kernels="c", threads=1, kv_memory_bytes=32 << 20)
    )
    with one_torch_thread():
        requests = requests_of(number, token_ids(400), longest=60)
        free, few = both(runner, requests, within_s=0.0, **settings)
    assert [len(answer) for answer in few.answers] == [request.params.max_tokens for request in requests]
    assert few.answers == free.answers
    assert free.statistics.preemptions == 0
    assert few.statistics.preemptions > 0
