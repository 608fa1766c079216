"""The engine's model as a Responder: prompts become ids, tokens become OpenAI's objects.

Streamed and whole answers are made by the same generator, so they have the same text.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from genkan.clock import Clock
from genkan.config import ModelDefaults
from genkan.engine.engine import Engine
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions
from genkan.errors import ContextTooLong, InvalidRequest, UnsupportedOption
from genkan.serving.namespaces import Namespaces
from genkan.serving.options import refuse_unsupported
from genkan.serving.prefix_view import described
from genkan.serving.shapes import ChatShape, CompletionShape, Shape, Usage
from genkan.serving.stop_strings import StopStrings
from genkan.upstream.base import Answer
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

_OFF_LOOP_CHARS = 4096  # encoding a longer text on the event loop would hold up the streams beside it


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that is safe to show, and the tokens that the answer took so far; the last piece has a reason."""

    text: str
    usage: Usage
    finish_reason: str | None


class LocalModel:
    """Answers generation requests with the engine in this process."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: TextTokenizer,
        *,
        name: str,
        fingerprint: str,
        defaults: ModelDefaults,
        clock: Clock,
    ) -> None:
        """``name`` and ``fingerprint`` stand in every answer as ``model`` and ``system_fingerprint``."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._name = name
        self._fingerprint = fingerprint
        self._defaults = defaults
        self._clock = clock
        self._namespaces = Namespaces()

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """See Responder. Raises InvalidRequest for what the engine does not do or what does not fit its window."""
        refuse_unsupported(request)
        prompt_ids = await self._prompt_ids(request)
        params = self._params(request, len(prompt_ids))
        prefix = self._prefix_options(request, caller.tenant)
        pieces = self._pieces(prompt_ids, params, caller.tenant, prefix, request.sampling.stop)
        shape = self._shape(request)
        if not request.stream:
            return Answer(body=await _collected(pieces, shape))
        try:
            first = await anext(pieces)
        except BaseException:
            await pieces.aclose()
            raise
        answer = Answer(batches=_batches(first, pieces, shape, with_usage=request.include_usage))
        answer.on_close(pieces.aclose)
        return answer

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

    async def _prompt_ids(self, request: GenerationRequest) -> list[int]:
        if isinstance(request, ChatRequest):
            return await self._encode(self._tokenizer.render_chat(_plain(request.messages)))
        assert isinstance(request, CompletionRequest)
        if len(request.prompts) > 1:
            raise UnsupportedOption("prompt", f"one prompt a request; given: {len(request.prompts)}")
        prompt = request.prompts[0]
        ids = await self._encode(prompt) if isinstance(prompt, str) else prompt
        if not ids:
            raise InvalidRequest("'prompt' must not be empty.", param="prompt")
        if (largest := max(ids)) >= self._tokenizer.vocab_size:
            raise InvalidRequest(
                f"'prompt' holds the token id {largest}; this model's ids are below {self._tokenizer.vocab_size}.",
                param="prompt",
            )
        return ids

    async def _encode(self, text: str) -> list[int]:
        limit = self._engine.max_model_len
        if len(text) <= _OFF_LOOP_CHARS:
            return self._tokenizer.encode(text)
        return await asyncio.to_thread(self._tokenizer.encode_up_to, text, limit)

    def _params(self, request: GenerationRequest, prompt_tokens: int) -> SamplingParams:
        asked, defaults = request.sampling, self._defaults
        room = self._engine.max_model_len - prompt_tokens
        max_tokens = min(defaults.max_tokens, max(room, 1)) if asked.max_tokens is None else asked.max_tokens
        if max_tokens > room:
            raise ContextTooLong(
                limit_tokens=self._engine.max_model_len,
                prompt_tokens=prompt_tokens,
                max_tokens=max_tokens,
                param="messages" if isinstance(request, ChatRequest) else "prompt",
            )
        return SamplingParams(
            max_tokens=max_tokens,
            stop_ids=self._tokenizer.stop_ids,
            temperature=defaults.temperature if asked.temperature is None else asked.temperature,
            top_p=defaults.top_p if asked.top_p is None else asked.top_p,
            top_k=asked.top_k,
            min_p=asked.min_p or 0.0,
            seed=asked.seed,
            ignore_eos=asked.ignore_eos,
        )

    def _prefix_options(self, request: GenerationRequest, tenant: str) -> PrefixOptions:
        extras = request.extras
        return PrefixOptions(
            namespace=self._namespaces.of(tenant, request.cache_salt),
            use=extras.prefix_cache is not False,
            ttl_s=extras.prefix_ttl_s,
            pin=bool(extras.prefix_pin),
        )

    async def _pieces(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        tenant: str,
        prefix: PrefixOptions,
        stop: tuple[str, ...],
    ) -> AsyncGenerator[_Piece, None]:
        """Pieces of the answer as they become clear. Closing it cancels the sequence."""
        text, stops, num_tokens = self._tokenizer.text_stream(), StopStrings(stop), 0
        generated = self._engine.generate(prompt_ids, params, tenant=tenant, prefix=prefix)
        async with aclosing(generated) as tokens:
            async for token in tokens:
                token_id, reason, cached_tokens = token.id, token.finish_reason, token.cached_tokens
                num_tokens += 1
                usage = Usage(len(prompt_ids), num_tokens, cached_tokens)
                shown = stops.push(text.push(token_id))
                if reason is not None and not stops.found:
                    shown += stops.push(text.flush())
                if stops.found:
                    yield _Piece(shown, usage, "stop")
                    return
                if reason is not None:
                    yield _Piece(shown + stops.flush(), usage, reason)
                elif shown:
                    yield _Piece(shown, usage, None)

    def _shape(self, request: GenerationRequest) -> Shape:
        chat = isinstance(request, ChatRequest)
        identity = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(self._clock.unix()),
            "model": self._name,
            "system_fingerprint": self._fingerprint,
        }
        make = ChatShape if chat else CompletionShape
        return make(identity, usage_in_chunks=request.include_usage)


def _plain(messages: list[dict[str, object]]) -> list[dict[str, str]]:
    """Messages as chat templates know them: content as one string, and ``developer``, its newer name, as system."""
    return [
        {"role": "system" if message["role"] == "developer" else str(message["role"]), "content": _text(message)}
        for message in messages
    ]


def _text(message: dict[str, object]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return "" if content is None else str(content)


async def _collected(pieces: AsyncGenerator[_Piece, None], shape: Shape) -> bytes:
    texts: list[str] = []
    async with aclosing(pieces):
        async for piece in pieces:
            texts.append(piece.text)
    assert piece.finish_reason is not None  # the last piece has one
    return shape.whole("".join(texts), piece.finish_reason, piece.usage)


async def _batches(
    first: _Piece, rest: AsyncGenerator[_Piece, None], shape: Shape, *, with_usage: bool
) -> AsyncGenerator[list[bytes], None]:
    """The chunks of a stream, a piece's at a time; ``with_usage``, the last one carries the usage."""
    opening = shape.opening()
    chunks = [] if opening is None else [opening]
    piece: _Piece | None = first
    while piece is not None:
        if piece.text:
            chunks.append(shape.text(piece.text))
        if piece.finish_reason is not None:
            chunks.append(shape.closing(piece.finish_reason))
            if with_usage:
                chunks.append(shape.usage(piece.usage))
        if chunks:
            yield chunks
            chunks = []
        piece = await anext(rest, None)
