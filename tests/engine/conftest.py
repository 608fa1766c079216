"""The real model in either profile, and text to give it."""

import inspect
import textwrap

import pytest
from compiled_kernels import compiled_kernels

from genkan.engine.config import EngineConfig
from genkan.engine.model_runner import ModelRunner
from genkan.upstream.tokenizer import TextTokenizer


@pytest.fixture(scope="session", params=["exact", "fast"])
def runner(request: pytest.FixtureRequest) -> ModelRunner:
    """The default model by the C kernels."""
    compiled_kernels()  # so there is a compiler
    return ModelRunner(EngineConfig(profile=request.param, kernels="c", kv_memory_bytes=128 << 20, max_model_len=2048))


@pytest.fixture(scope="session")
def text(tokenizer: TextTokenizer) -> list[int]:
    """Token ids of real text, as many as the tests need."""
    ids = tokenizer.encode(inspect.getsource(textwrap))
    assert len(ids) > 1500
    return ids
