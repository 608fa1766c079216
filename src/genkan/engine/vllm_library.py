"""The names that we use of vLLM, which is imported at start only, and only where it is asked for: it takes seconds."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

from genkan.engine.sampling_params import SamplingParams
from genkan.engine.vllm_words import sampling_arguments, structured_outputs
from genkan.errors import ConfigError, ModelFileError


class VllmLibrary:
    """vLLM 0.32, imported."""

    def __init__(self) -> None:
        """Raises ConfigError where vLLM is not installed."""
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # it would tell its makers of us
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # we have threads, which do not outlive a fork
        try:
            sampling = importlib.import_module("vllm.sampling_params")
            errors = importlib.import_module("vllm.exceptions")
            self._args = importlib.import_module("vllm.engine.arg_utils").AsyncEngineArgs
            self._llm = importlib.import_module("vllm.v1.engine.async_llm").AsyncLLM
            self.dead_error: type[Exception] = importlib.import_module("vllm.v1.engine.exceptions").EngineDeadError
        except ImportError as error:
            raise ConfigError("engine.backend", f"{error}; vLLM comes with pip install 'genkan[vllm]'") from error
        self._params, self._structured = sampling.SamplingParams, sampling.StructuredOutputsParams
        self._delta = sampling.RequestOutputKind.DELTA
        self.client_error: type[Exception] = errors.VLLMClientError
        self.busy_error: type[Exception] = errors.GracefulHTTPError

    def started(self, arguments: Mapping[str, Any]) -> Any:
        """An ``AsyncLLM`` with its model loaded, of the ``arguments`` of ``AsyncEngineArgs``.

        Raises ConfigError for an argument that does not exist or has a wrong type, and ModelFileError for the rest.
        """
        try:
            args = self._args(**arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError("engine.vllm", str(error)) from error
        try:
            return self._llm.from_engine_args(args)
        except Exception as error:
            raise ModelFileError(f"vLLM cannot serve {arguments['model']}: {error}") from error

    def sampling_params(self, params: SamplingParams, n: int) -> Any:
        """vLLM's ``SamplingParams``, whose outputs are the new tokens. Raises ``client_error``."""
        grammar = params.grammar
        return self._params(
            **sampling_arguments(params, n),
            structured_outputs=None if grammar is None else self._structured(**structured_outputs(grammar)),
            output_kind=self._delta,
        )
