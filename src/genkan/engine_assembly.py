"""From a configuration to the engine's models: which file, which runner, which engine, which tokenizer.

Nothing here imports torch before a model is loaded: the gateway's process imports this module too.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from genkan.clock import SystemClock
from genkan.config import Config, ModelConfig
from genkan.engine.turns import Turns
from genkan.telemetry.metrics import EngineMetrics

if TYPE_CHECKING:
    from genkan.engine.config import EngineConfig
    from genkan.serving.local_model import LocalModel


class EngineAssembly:
    """Loads the models of one Engine process."""

    def __init__(self, config: Config, on_broken: Callable[[], None]) -> None:
        """``on_broken`` is called, in any thread, when an engine fails for good and the process has to be another."""
        self._config = config
        self._on_broken = on_broken
        self._models = config.engine_models
        self._metrics = EngineMetrics()
        self._turns = Turns() if len(self._models) > 1 else None

    @property
    def names(self) -> list[str]:
        """The models' names, as configured."""
        return list(self._models)

    def load(self, name: str) -> "LocalModel":
        """The model of that name, ready to answer. Blocks for seconds. Raises ModelFileError."""
        # OpenMP's threads spin while they wait for each other, and where other work shares the cores the whole engine
        # waits with them: 1–4 tok/s instead of 10–20 on two busy cores. It must be set before torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        model = self._models[name]
        settings = self._config.engine_of(model)
        return self._embedded(model, settings)

    def _embedded(self, model: ModelConfig, settings: "EngineConfig") -> "LocalModel":
        from genkan.engine.engine import Engine
        from genkan.engine.model_runner import ModelRunner
        from genkan.serving.local_model import LocalModel
        from genkan.upstream.tokenizer import TextTokenizer

        runner = ModelRunner(settings)
        tokenizer = TextTokenizer(runner.metadata)
        runner.check()
        return LocalModel(
            Engine(runner, settings, self._metrics.of(model.name), on_broken=self._on_broken),
            tokenizer,
            name=model.name,
            fingerprint=f"fp_{runner.digest[:10]}",
            defaults=model.defaults,
            clock=SystemClock(),
        )
