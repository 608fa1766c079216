"""From a configuration to the engine's models: which file, which runner, which engine, which tokenizer.

Nothing here imports torch before a model is loaded: the gateway's process imports this module too.
"""

import os
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genkan.clock import SystemClock
from genkan.config import Config, ModelConfig
from genkan.engine.config import EngineConfig
from genkan.engine.grammar.observer import GrammarObserver
from genkan.engine.turns import Turns
from genkan.telemetry.metrics import EngineMetrics

if TYPE_CHECKING:
    from genkan.engine.client import EngineClient
    from genkan.engine.grammar.grammars import Grammars
    from genkan.serving.local_model import LocalModel
    from genkan.upstream.tokenizer import TextTokenizer


class EngineAssembly:
    """Loads the models of one Engine process."""

    def __init__(self, config: Config, on_broken: Callable[[], None]) -> None:
        """``on_broken`` is called, in any thread, when an engine fails for good and the process has to be another."""
        self._config = config
        self._on_broken = on_broken
        self._models = config.engine_models
        self._metrics = EngineMetrics()
        self._turns = Turns()
        self._loading = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The models' names, as configured."""
        return list(self._models)

    def load(self, name: str) -> "LocalModel":
        """The model of that name, ready to answer. Blocks for seconds. Raises ModelFileError and ConfigError.

        One is loaded at a time: each looks how much memory is left, and a GPU records one's graphs at a time.
        """
        # OpenMP's threads spin while they wait for each other, and where other work shares the cores the whole engine
        # waits with them: 1–4 tok/s instead of 10–20 on two busy cores. It must be set before torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        model = self._models[name]
        settings = self._config.engine_of(model)
        with self._loading:
            return self._with_vllm(model, settings) if settings.backend == "vllm" else self._embedded(model, settings)

    def _embedded(self, model: ModelConfig, settings: EngineConfig) -> "LocalModel":
        from genkan.engine.engine import Engine
        from genkan.engine.model_runner import ModelRunner

        runner = ModelRunner(settings)
        tokenizer = _tokenizer(runner.path, runner.metadata)
        with self._turns.turn():
            runner.check()
        memory = runner.device_memory if runner.device.type == "cuda" else None
        observer = self._metrics.of(model.name, memory)
        grammars = _grammars(tokenizer, settings, runner.vocab_size, observer)
        engine = Engine(runner, settings, observer, grammars=grammars, turns=self._turns, on_broken=self._on_broken)
        return _answering(model, engine, tokenizer, runner.digest, on_stop=grammars.close)

    def _with_vllm(self, model: ModelConfig, settings: EngineConfig) -> "LocalModel":
        from genkan.engine.load.gguf import read_metadata
        from genkan.engine.load.source import locate
        from genkan.engine.vllm_engine import VllmEngine

        path = locate(settings.model)
        tokenizer = _tokenizer(path, {} if path.is_dir() else read_metadata(path))
        engine = VllmEngine(settings, self._metrics.of(model.name), on_broken=self._on_broken)
        return _answering(model, engine, tokenizer, sha256(str(path).encode()).hexdigest())


def _tokenizer(path: Path, metadata: Mapping[str, Any]) -> "TextTokenizer":
    from genkan.upstream.tokenizer import TextTokenizer

    return TextTokenizer.of_folder(path) if path.is_dir() else TextTokenizer.of_gguf(metadata)


def _grammars(
    tokenizer: "TextTokenizer", settings: EngineConfig, vocab_size: int, observer: GrammarObserver
) -> "Grammars":
    from genkan.engine.grammar.grammars import Grammars
    from genkan.engine.grammar.token_table import TokenTable

    table = TokenTable(
        tokens=tokenizer.token_bytes(),
        stop_ids=tokenizer.stop_ids,
        eos_id=tokenizer.eos_id,
        special=tokenizer.special_ids,
    )
    return Grammars(
        table,
        timeout_s=settings.grammar_timeout_s,
        max_bytes=settings.max_grammar_bytes,
        cache=settings.grammar_cache,
        vocab_size=vocab_size,
        observer=observer,
    )


def _answering(
    model: ModelConfig,
    engine: "EngineClient",
    tokenizer: "TextTokenizer",
    digest: str,
    on_stop: Callable[[], None] = lambda: None,
) -> "LocalModel":
    from genkan.serving.local_model import LocalModel

    return LocalModel(
        engine,
        tokenizer,
        name=model.name,
        fingerprint=f"fp_{digest[:10]}",
        defaults=model.defaults,
        clock=SystemClock(),
        on_stop=on_stop,
    )
