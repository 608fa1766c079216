"""What every test shares."""

import os
from typing import TYPE_CHECKING

import pytest

# Triton looks once, when its kernels are first imported; by its interpreter they need no GPU.
os.environ["TRITON_INTERPRET"] = "1"

if TYPE_CHECKING:  # these bring numpy and tokenizers in, which takes a while: only for tests that use them
    from genkan.engine.load.gguf import GgufFile
    from genkan.upstream.tokenizer import TextTokenizer


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (``@pytest.mark.anyio``) run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def smollm() -> "GgufFile":
    """The default model's file: its key-values, and its tensors as they are stored."""
    from genkan.engine.config import EngineConfig
    from genkan.engine.load import gguf
    from genkan.engine.load.source import locate

    return gguf.read(locate(EngineConfig().model))


@pytest.fixture(scope="session")
def tokenizer(smollm: "GgufFile") -> "TextTokenizer":
    """The default model's tokenizer and chat template."""
    from genkan.upstream.tokenizer import TextTokenizer

    return TextTokenizer(smollm.metadata)
