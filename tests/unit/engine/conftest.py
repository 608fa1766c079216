"""An engine over a model that a test drives pass by pass."""

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Changes, FakeRunner
from running import MakeEngine, one_torch_thread

from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def make_engine(runner: FakeRunner, changes: Changes) -> Iterator[MakeEngine]:
    """Makes an engine over ``runner``, or over another, from settings of EngineConfig and options of Engine.

    Chunks do not depend on measured times unless a ``chunk_slowdown`` is given.
    """
    made: list[tuple[Engine, FakeRunner]] = []

    def make(model: FakeRunner = runner, options: dict[str, Any] | None = None, **settings: Any) -> Engine:
        config = EngineConfig(**({"chunk_slowdown": None} | settings))
        engine = Engine(model, config, **({"observer": changes} | (options or {})))
        made.append((engine, model))
        return engine

    with one_torch_thread():
        yield make
        for engine, model in made:
            model.let_all()
            engine.stop()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()
