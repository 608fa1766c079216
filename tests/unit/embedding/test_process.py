"""The embedder's process without BentoML: how it loads, and what it computes."""

import base64
from pathlib import Path

import numpy as np
import pytest
from e5_bytes import HIDDEN, POSITIONS, e5_bytes
from prometheus_client import CollectorRegistry

from genkan.config import EmbedderConfig
from genkan.embedding.backlog import EmbedderObserver
from genkan.embedding.process import EmbedderProcess
from genkan.errors import EngineUnavailable
from genkan.telemetry.embedder_metrics import EmbedderMetrics

pytestmark = pytest.mark.anyio

WAIT_S = 30


async def started(folder: Path, content: bytes, observer: EmbedderObserver | None = None) -> EmbedderProcess:
    """A process whose loading has ended, one way or the other."""
    path = folder / "e5.bin"
    path.write_bytes(content)
    process = EmbedderProcess(EmbedderConfig(model=str(path), device="cpu"), observer)
    assert not process.ready
    with pytest.raises(EngineUnavailable, match="is loading"):
        process.check_ready()
    await process.start()
    process._thread.join(WAIT_S)
    return process


async def test_each_text_gets_its_tokens_and_its_vector_and_one_that_is_too_long_none(tmp_path: Path) -> None:
    process = await started(tmp_path, e5_bytes())
    process.check_ready()
    short, long = process.compute(["query: ab !", "a " * 100])
    vector = np.frombuffer(base64.b64decode(short["vector"]), "<f4")
    assert vector.shape == (HIDDEN,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-5
    assert short["tokens"] <= POSITIONS < long["tokens"]
    assert long["vector"] == ""
    await process.aclose()


async def test_a_model_that_cannot_be_loaded_leaves_it_unready_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = await started(tmp_path, e5_bytes(without="l1.fo.w"))
    assert not process.ready
    with pytest.raises(EngineUnavailable, match=r"cannot load its model; the server's log says why\.$"):
        process.check_ready()
    assert "the model file has no tensor l1.fo.w" in caplog.text


async def test_what_a_batch_costs_is_kept_for_the_line(tmp_path: Path) -> None:
    process = await started(tmp_path, e5_bytes())
    process.backlog.enter(1000, 1.0)
    process.compute(["ab " * 4] * 100)
    assert process.backlog.wait_s > 0


async def test_batches_are_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    process = await started(tmp_path, e5_bytes(), EmbedderMetrics(registry))
    process.compute(["ab", "ab !"])
    process.backlog.enter(10, 1.0)
    named = ("genkan_embedder_batch_texts_sum", "genkan_embedder_batch_seconds_count", "genkan_embedder_queue")
    assert [registry.get_sample_value(name) for name in named] == [2, 1, 1]
