"""The engine's model as a Responder: prompts become ids, tokens become OpenAI's objects.

Streamed and whole answers are made by the same generator, so they have the same text.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from genkan.clock import Clock
from genkan.config import ModelDefaults
from genkan.engine.client import Capability, EngineClient
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions
from genkan.errors import InvalidRequest
from genkan.serving.answering import Answering
from genkan.serving.asked import Asked
from genkan.serving.beginning import Beginning, check_rules
from genkan.serving.bounds import check_bounds, check_logprobs
from genkan.serving.constraints import constraint_of
from genkan.serving.echo import Echo
from genkan.serving.generation import Generation, Tokens, after_prompts, merged
from genkan.serving.logprobs import TokenWords
from genkan.serving.namespaces import Namespaces
from genkan.serving.options import can_form, form_name, refuse_form, refuse_unsupported
from genkan.serving.prefix_view import described
from genkan.serving.prompting import Prompt, Prompting
from genkan.serving.shapes import ChatShape, CompletionShape, Shape
from genkan.serving.tools.tool_use import ToolUse
from genkan.serving.writing import streamed, whole
from genkan.upstream.base import Answer
from genkan.upstream.token_count import TokenCount
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.continuing import beginning_of

_OFF_LOOP_TOKENS = 1000  # of prompts to be decoded on the event loop
_OFF_LOOP_CHARS = 4096  # of a beginning in which calls are looked for


class LocalModel:
    """Answers generation requests with an engine in this process."""

    def __init__(
        self,
        engine: EngineClient,
        tokenizer: TextTokenizer,
        *,
        name: str,
        fingerprint: str,
        defaults: ModelDefaults,
        clock: Clock,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """``name`` and ``fingerprint`` stand in every answer as ``model`` and ``system_fingerprint``.

        What ``engine`` is not capable of is refused by its name in a request. ``on_stop`` is called once it has
        stopped, and gives back what was made for it.
        """
        self._engine = engine
        self._tokenizer = tokenizer
        self._prompting = Prompting(tokenizer, engine.max_model_len)
        self._words = TokenWords(tokenizer)
        self._name = name
        self._fingerprint = fingerprint
        self._defaults = defaults
        self._clock = clock
        self._on_stop = on_stop
        self._namespaces = Namespaces()

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """See Responder. Raises InvalidRequest for what the engine does not do or what does not fit its window."""
        refuse_unsupported(request, self._engine.capabilities)
        check_bounds(request, self._tokenizer.vocab_size)
        text = beginning_of(request)
        tools = ToolUse.of(request, self._tokenizer) if isinstance(request, ChatRequest) else None
        asked = self._asked(request, tools)
        if text is not None:
            check_rules(request, self._engine.capabilities, has_form=asked.grammar is not None)
        prompts = await self._prompts(request, tools, text, exact=asked.grammar is not None)
        all_params = _all_params(asked, prompts)  # before echoes are decoded: what is refused is not worth it
        echoes = await self._echoes(asked, prompts)
        if text is None or tools is None or len(text) <= _OFF_LOOP_CHARS:
            answers = self._answers(asked, prompts, tools, echoes, text)
        else:
            answers = await asyncio.to_thread(self._answers, asked, prompts, tools, echoes, text)
        generation = self._generation(asked, prompts, all_params, echoes, answers, caller.tenant)
        shape = self._shape(request)
        try:
            if request.stream:
                return await streamed(generation, shape, with_usage=request.include_usage)
            return await whole(generation, shape)
        except InvalidRequest as error:
            if error.param == Capability.JSON.value:  # what engines call every form
                error.param = form_name(request)
            raise

    async def count_tokens(self, request: GenerationRequest) -> TokenCount:
        """How many tokens the prompts of ``request`` have together, rendered and bounded as for an answer.

        A text far beyond the window is counted as if all of it were like its beginning. Raises InvalidRequest for what
        could not be answered either.
        """
        refuse_unsupported(request, self._engine.capabilities)
        check_bounds(request, self._tokenizer.vocab_size)
        text = beginning_of(request)
        tools = ToolUse.of(request, self._tokenizer) if isinstance(request, ChatRequest) else None
        prompts = await self._prompts(request, tools, text, exact=False)
        counts = [await self._prompting.count(prompt) for prompt in prompts]
        return TokenCount(sum(counts), self._engine.max_model_len)

    async def prefix_cache_snapshot(self) -> dict[str, Any]:
        """The engine's prefix cache with names of tenants and the beginnings of texts; see `prefix_view.described`."""
        snapshot = await self._engine.prefix_cache_snapshot()
        return {"model": self._name, **described(snapshot, self._namespaces, self._tokenizer)}

    async def purge_prefix_cache(self, tenant: str) -> int:
        """Drop all pages of ``tenant``, whatever the salt; how many they were."""
        return await self._engine.purge_prefix_cache(self._namespaces.prefix_of(tenant))

    def stop(self) -> None:
        """End the engine, and with it whatever it still generates."""
        self._engine.stop()
        self._on_stop()

    async def _prompts(
        self, request: GenerationRequest, tools: ToolUse | None, text: str | None, *, exact: bool
    ) -> list[Prompt]:
        prompts = await self._prompting.prompts(request, tools)
        return prompts if text is None else [await self._prompting.begun(prompts[0], text, exact=exact)]

    def _asked(self, request: GenerationRequest, tools: ToolUse | None) -> Asked:
        grammar = self._grammar(request, tools)
        return Asked(request, self._defaults, self._tokenizer.stop_ids, self._engine.max_model_len, grammar)

    def _grammar(self, request: GenerationRequest, tools: ToolUse | None) -> GrammarSpec | None:
        """The form of the whole answer, calls included.

        An engine without grammars still offers tools that need not be called: calls are found in whatever it writes.
        """
        capabilities = self._engine.capabilities
        spec = constraint_of(request)
        if spec is not None:
            refuse_form(spec.kind, capabilities, form_name(request))
        if tools is None or tools.grammar is None:
            return spec
        if (
            spec is None
            and request.raw.get("tool_choice") in (None, "auto", "none")
            and not can_form(tools.grammar.kind, capabilities)
        ):
            return None
        refuse_form(tools.grammar.kind, capabilities, "tool_choice")
        return tools.grammar

    async def _echoes(self, asked: Asked, prompts: Sequence[Prompt]) -> list[Echo]:
        if not asked.is_echo:
            return []
        scores = asked.request.sampling.logprobs is not None

        def make() -> list[Echo]:
            tokenizer, is_all = self._tokenizer, asked.is_echo_only
            return [Echo(prompt.ids, prompt.text, tokenizer, scores=scores, is_all=is_all) for prompt in prompts]

        few = sum(len(prompt.ids) for prompt in prompts) <= _OFF_LOOP_TOKENS
        return make() if few else await asyncio.to_thread(make)

    def _generation(
        self,
        asked: Asked,
        prompts: Sequence[Prompt],
        all_params: Sequence[SamplingParams],
        echoes: Sequence[Echo],
        answers: Sequence[Answering],
        tenant: str,
    ) -> Generation:
        request, n = asked.request, asked.request.sampling.n
        counts = {
            "prompt_tokens": sum(len(prompt.ids) for prompt in prompts),
            "continued_tokens": sum(prompt.num_begun for prompt in prompts),
        }
        if all_params[0].max_tokens < 1:
            return Generation(None, answers, per_prompt=n, **counts)
        prefix = self._prefix_options(request, tenant)
        priority = request.extras.priority or 0
        sources = [
            self._engine.generate(prompt.ids, params, tenant=tenant, prefix=prefix, n=n, priority=priority)
            for prompt, params in zip(prompts, all_params, strict=True)
        ]
        tokens: Tokens = sources[0] if len(sources) == 1 else merged(sources, n)
        if echoes and request.sampling.logprobs is not None:
            tokens = after_prompts(tokens, echoes, n)
        return Generation(tokens, answers, per_prompt=n, **counts)

    def _answers(
        self,
        asked: Asked,
        prompts: Sequence[Prompt],
        tools: ToolUse | None,
        echoes: Sequence[Echo],
        text: str | None,
    ) -> list[Answering]:
        sampling = asked.request.sampling
        ending = asked.ending(parallel_calls=asked.request.raw.get("parallel_tool_calls") is not False)
        shown = frozenset() if tools is None else tools.shown_ids
        continues = text is not None or not isinstance(asked.request, ChatRequest)
        return [
            Answering(
                index,
                self._tokenizer.text_stream(shown, continues=continues),
                ending,
                scores=sampling.logprobs is not None,
                echo=echoes[index // sampling.n] if echoes else None,
                parser=None if tools is None else tools.parser(text or ""),
                beginning=None if text is None else Beginning(text, prompts[0].num_begun),
            )
            for index in range(len(prompts) * sampling.n)
        ]

    def _prefix_options(self, request: GenerationRequest, tenant: str) -> PrefixOptions:
        extras = request.extras
        return PrefixOptions(
            namespace=self._namespaces.of(tenant, request.cache_salt),
            use=extras.prefix_cache is not False,
            ttl_s=extras.prefix_ttl_s,
            pin=bool(extras.prefix_pin),
        )

    def _shape(self, request: GenerationRequest) -> Shape:
        chat = isinstance(request, ChatRequest)
        identity = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(self._clock.unix()),
            "model": self._name,
            "system_fingerprint": self._fingerprint,
        }
        make = ChatShape if chat else CompletionShape
        return make(identity, self._words, usage_in_chunks=request.include_usage)


def _all_params(asked: Asked, prompts: Sequence[Prompt]) -> list[SamplingParams]:
    """What the engine is told of each prompt. Raises ContextTooLong, and InvalidRequest for too many logprobs."""
    all_params = [asked.params(prompt.num_own, prompt.num_begun) for prompt in prompts]
    sampling = asked.request.sampling
    if sampling.logprobs is not None:
        echoed = sum(len(prompt.ids) for prompt in prompts) if asked.is_echo else 0
        num_tokens = sampling.n * (echoed + sum(params.max_tokens for params in all_params))
        check_logprobs(num_tokens, sampling.logprobs)
    return all_params
