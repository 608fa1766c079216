"""What every test shares."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # these bring torch in, which takes a second: only for tests that use them
    from genkan.engine.load.gguf import ModelFile
    from genkan.upstream.tokenizer import TextTokenizer


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (``@pytest.mark.anyio``) run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def smollm() -> "ModelFile":
    """The default model in float32, kept in the default cache: seconds the first time, then 0.3 s."""
    import torch

    from genkan.engine.config import EngineConfig
    from genkan.engine.load import gguf
    from genkan.engine.load.source import locate
    from genkan.engine.model_runner import cache_dir

    config = EngineConfig()
    return gguf.load(locate(config.model), torch.float32, cache_dir(config))


@pytest.fixture(scope="session")
def tokenizer(smollm: "ModelFile") -> "TextTokenizer":
    """The default model's tokenizer and chat template."""
    from genkan.upstream.tokenizer import TextTokenizer

    return TextTokenizer(smollm.metadata)
