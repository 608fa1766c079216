"""vLLM in this process, as an EngineClient: for GPUs and models that are beyond our own engine.

vLLM computes in a process of its own, and answers to the event loop that asks first. Written for vLLM 0.32.
"""

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Ids
from dataclasses import replace
from typing import Any

from genkan.engine.client import Capability
from genkan.engine.config import EngineConfig
from genkan.engine.load.source import locate
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import LOCAL_TENANT, PrefixOptions, Token
from genkan.engine.statistics import EngineObserver, EngineStatistics, NobodyWatches
from genkan.engine.vllm_library import VllmLibrary
from genkan.engine.vllm_words import RequestOutput, capabilities, engine_args, tokens_of
from genkan.errors import (
    ContextTooLong,
    EngineFailed,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
    RequestError,
    UnsupportedOption,
)

_log = logging.getLogger("genkan.engine")
_DEFAULT_PREFIX = PrefixOptions()
_LONGEST_MESSAGE = 500


class VllmEngine:
    """An EngineClient. To be used from one event loop."""

    def __init__(
        self,
        config: EngineConfig,
        observer: EngineObserver | None = None,
        *,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Load the model. Blocks for seconds to minutes; not for the event loop's thread.

        ``on_broken`` is called once, in the event loop, if vLLM is dead. The observer hears of requests, and of no
        steps: they are in another process. Raises ConfigError without vLLM or for settings that it refuses, and
        ModelFileError for a model that it cannot load.
        """
        self._vllm = VllmLibrary()
        #: The model's file or folder.
        self.path = locate(config.model)
        arguments = engine_args(config, self.path)
        #: What vLLM can do with these settings.
        self.capabilities = capabilities(arguments)
        self._llm = self._vllm.started(arguments)
        self._observer = observer or NobodyWatches()
        self._on_broken = on_broken
        self._config = config
        self._limit = config.max_sequences + config.max_waiting
        self._numbers = itertools.count()
        self._num_alive = self._num_waiting = 0
        self._generated_tokens = 0
        self._told = EngineStatistics()
        self._patience: set[asyncio.Timeout] = set()  # of whoever waits for vLLM
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: str | None = None

    @property
    def max_model_len(self) -> int:
        return int(self._llm.model_config.max_model_len)

    @property
    def vocab_size(self) -> int:
        return int(self._llm.model_config.get_vocab_size())

    def statistics(self) -> EngineStatistics:
        """Answers and tokens, as seen from here; blocks, pages and preemptions are vLLM's alone, and 0."""
        return replace(self._told, generated_tokens=self._generated_tokens)

    async def prefix_cache_snapshot(self, max_nodes: int = 2000) -> dict[str, Any]:
        raise UnsupportedOption(Capability.PREFIX_CACHE_VIEW.value, "vLLM does not show its prefix cache.")

    async def purge_prefix_cache(self, namespace_prefix: bytes) -> int:
        raise UnsupportedOption(Capability.PREFIX_CACHE_PURGE.value, "vLLM cannot drop a part of its prefix cache.")

    async def generate(
        self,
        prompt_ids: Ids[int],
        params: SamplingParams,
        *,
        tenant: str = LOCAL_TENANT,
        prefix: PrefixOptions = _DEFAULT_PREFIX,
        n: int = 1,
        priority: int = 0,
    ) -> AsyncGenerator[Token, None]:
        """See EngineClient. vLLM orders the requests of all tenants by priority, and shares nothing out among tenants.

        A reader that is slow gets several tokens at once: they wait in one list, never longer than the answers.
        """
        self._check(prompt_ids, params)
        asked = self._request(prompt_ids, params, prefix, n, priority)
        cached_tokens, seen, finished = 0, False, False
        self._admit(n)
        try:
            outputs: AsyncGenerator[RequestOutput, None] = self._llm.generate(**asked)
            try:
                while not finished:
                    output = await self._next(outputs, params)
                    finished = output.finished
                    if not seen:
                        seen, cached_tokens = True, output.num_cached_tokens or 0
                        self._began(len(prompt_ids), cached_tokens, n, looked=prefix.use and self._config.prefix_cache)
                    for token in tokens_of(output, prompt_ids, params, cached_tokens):
                        self._generated_tokens += 1
                        yield token
            finally:
                await outputs.aclose()  # vLLM aborts what has not ended
        finally:
            self._ended(n, waited=not seen)

    def stop(self) -> None:
        """Fail what runs and waits with EngineUnavailable, and end vLLM's processes. From any thread; takes seconds."""
        self._closed = self._closed or "The engine is stopping."
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_up)
        self._llm.shutdown()

    def _check(self, prompt_ids: Ids[int], params: SamplingParams) -> None:
        if self._closed is not None:
            raise EngineUnavailable(self._closed)
        if len(prompt_ids) + params.max_tokens > self.max_model_len:
            raise ContextTooLong(
                limit_tokens=self.max_model_len,
                prompt_tokens=len(prompt_ids),
                max_tokens=params.max_tokens,
                param="prompt",
            )
        if params.grammar is not None and len(params.grammar.text.encode()) > self._config.max_grammar_bytes:
            raise InvalidRequest(
                f"The grammar or schema is longer than {self._config.max_grammar_bytes} bytes.", param="response_format"
            )

    def _request(
        self, prompt_ids: Ids[int], params: SamplingParams, prefix: PrefixOptions, n: int, priority: int
    ) -> dict[str, Any]:
        """The arguments of vLLM's ``generate``."""
        salt = prefix.namespace if prefix.use else secrets.token_bytes(16)  # what nobody else has, nobody finds
        prompt: dict[str, Any] = {"prompt_token_ids": list(prompt_ids)}
        if salt:
            prompt["cache_salt"] = salt.hex()
        if params.grammar is None:
            prompt["type"] = "token"  # nothing to prepare; without it vLLM does that in a thread, a grammar's check too
        try:
            sampling = self._vllm.sampling_params(params, n)
        except self._vllm.client_error as error:
            raise _refused(error, params) from error
        return {
            "prompt": prompt,
            "sampling_params": sampling,
            "request_id": f"genkan-{next(self._numbers)}",
            "priority": -priority,  # lower goes first there
        }

    async def _next(self, outputs: AsyncGenerator[RequestOutput, None], params: SamplingParams) -> RequestOutput:
        """The next output. Raises our errors for vLLM's, and EngineUnavailable after ``stop``."""
        try:
            async with asyncio.timeout(None) as patience:  # only ``stop`` ends it
                self._patience.add(patience)
                try:
                    return await anext(outputs)
                finally:
                    self._patience.discard(patience)
        except Exception as error:
            raise self._translated(error, params) from error

    def _translated(self, error: Exception, params: SamplingParams) -> RequestError:
        if self._closed is not None:
            return EngineUnavailable(self._closed)
        if isinstance(error, self._vllm.dead_error):
            _log.error("vLLM is dead", exc_info=error)
            self._closed = "The engine is broken; the server's log says why."
            self._on_broken()
            return EngineUnavailable(self._closed)
        if isinstance(error, self._vllm.client_error):
            return _refused(error, params)
        if isinstance(error, self._vllm.busy_error):
            return EngineOverloaded(str(error))
        _log.error("vLLM failed on a request", exc_info=error)
        return EngineFailed("The engine failed on this request.")

    def _give_up(self) -> None:
        now = asyncio.get_running_loop().time()
        for patience in self._patience:
            patience.reschedule(now)

    # What is counted

    def _admit(self, n: int) -> None:
        if self._num_alive + n > self._limit:
            raise EngineOverloaded(f"The engine is busy: at most {self._limit} answers may run and wait at once.")
        self._loop = asyncio.get_running_loop()
        self._num_alive += n
        self._num_waiting += n
        self._tell()

    def _began(self, prompt_tokens: int, cached_tokens: int, n: int, *, looked: bool) -> None:
        told = self._told
        self._num_waiting -= n
        self._tell(
            prompt_tokens=told.prompt_tokens + prompt_tokens,
            cached_tokens=told.cached_tokens + cached_tokens,
            prefix_queries=told.prefix_queries + looked,
            prefix_hits=told.prefix_hits + (cached_tokens > 0),
        )

    def _ended(self, n: int, *, waited: bool) -> None:
        self._num_alive -= n
        self._num_waiting -= n * waited
        self._tell()

    def _tell(self, **counts: int) -> None:
        running = self._num_alive - self._num_waiting
        self._told = replace(self.statistics(), running=running, waiting=self._num_waiting, **counts)
        self._observer.changed(self._told)


def _refused(error: Exception, params: SamplingParams) -> InvalidRequest:
    param = getattr(error, "parameter", None) or ("response_format" if params.grammar is not None else None)
    return InvalidRequest(str(error)[:_LONGEST_MESSAGE], param=param)
