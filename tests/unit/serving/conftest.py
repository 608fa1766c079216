"""The default model's tokenizer over a model that gives chosen tokens."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes import Changes, FakeRunner
from local_answers import IM_END, MakeModel, runner_of
from running import ManualClock, one_torch_thread

from genkan.config import ModelDefaults
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def make_model(tokenizer: TextTokenizer, changes: Changes) -> Iterator[MakeModel]:
    made: list[tuple[LocalModel, FakeRunner]] = []

    def make(runner: FakeRunner, **defaults: Any) -> LocalModel:
        model = LocalModel(
            Engine(runner, EngineConfig(), changes),
            tokenizer,
            name="smollm2-135m",
            fingerprint="fp_0123456789",
            defaults=ModelDefaults(**defaults),
            clock=ManualClock(),
        )
        made.append((model, runner))
        return model

    with one_torch_thread():
        yield make
        for model, runner in made:
            runner.let_all()
            model.stop()


@pytest.fixture
def says(tokenizer: TextTokenizer) -> Callable[[str], FakeRunner]:
    """A runner that answers with the ids of a text and ends its turn."""
    return lambda text: runner_of([*tokenizer.encode(text), IM_END])
