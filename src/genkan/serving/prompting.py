"""From a request to the token ids that the engine is given."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genkan.errors import ContextTooLong, InvalidRequest, UnsupportedOption
from genkan.serving.bounds import check_ids
from genkan.serving.tools.tool_use import ToolUse
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

_OFF_LOOP_CHARS = 4096  # encoding a longer text on the event loop would hold up the streams beside it


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; ``text`` is None for one that came as ids.

    The last ``num_begun`` of ``ids`` are the answer's beginning, which is not part of ``text``.
    """

    ids: Sequence[int]
    text: str | None
    num_begun: int = 0

    @property
    def num_own(self) -> int:
        """Tokens of the prompt itself."""
        return len(self.ids) - self.num_begun


class Prompting:
    """Makes the prompts of one model."""

    def __init__(self, tokenizer: TextTokenizer, limit_tokens: int) -> None:
        """A text far beyond ``limit_tokens`` is not encoded to its end."""
        self._tokenizer = tokenizer
        self._limit_tokens = limit_tokens
        self._num_off_loop = 0  # chats that are rendered in threads: templates render one at a time

    async def prompts(self, request: GenerationRequest, tools: ToolUse | None) -> list[Prompt]:
        """The prompts of ``request``, one for a chat. Long ones are rendered and encoded off the event loop.

        Raises InvalidRequest for a prompt without tokens, ids beyond the vocabulary, messages that the chat template
        refuses, ContextTooLong for more messages than the window has tokens, and UnsupportedOption for a chat with a
        model that has no template.
        """
        if isinstance(request, ChatRequest):
            if len(request.messages) > self._limit_tokens:  # a token each at least: not worth a second of rendering
                raise ContextTooLong(
                    limit_tokens=self._limit_tokens,
                    prompt_tokens=len(request.messages),
                    max_tokens=request.sampling.max_tokens or 1,
                    param="messages",
                )
            return [await self._chat(request.messages, tools)]
        assert isinstance(request, CompletionRequest)
        if sum(map(len, request.prompts)) <= _OFF_LOOP_CHARS:
            return self._given(request.prompts)
        return await asyncio.to_thread(self._given, request.prompts)

    async def begun(self, prompt: Prompt, beginning: str, *, exact: bool) -> Prompt:
        """``prompt`` and after it the ``beginning`` of its answer. See `TextTokenizer.encode_after` for ``exact``.

        One that does not fit the window stays without: it will be refused.
        """
        if len(prompt.ids) >= self._limit_tokens:
            return prompt
        num_chars = len(prompt.ids) if prompt.text is None else len(prompt.text)
        if num_chars + len(beginning) <= _OFF_LOOP_CHARS:
            return self._with_beginning(prompt, beginning, exact)
        return await asyncio.to_thread(self._with_beginning, prompt, beginning, exact)

    def _with_beginning(self, prompt: Prompt, beginning: str, exact: bool) -> Prompt:
        ids = self._tokenizer.encode_after(prompt.ids, prompt.text, beginning, self._limit_tokens, exact=exact)
        return Prompt([*prompt.ids, *ids], prompt.text, len(ids))

    async def count(self, prompt: Prompt) -> int:
        """The tokens of ``prompt``; where only a beginning of it was encoded, about as many as the whole has."""
        if prompt.text is None or len(prompt.ids) <= self._limit_tokens:
            return len(prompt.ids)
        return await asyncio.to_thread(self._extrapolated, prompt.ids, prompt.text)

    def _extrapolated(self, ids: Sequence[int], text: str) -> int:
        num_bytes = sum(map(len, map(self._tokenizer.token_bytes_of, ids)))
        return max(len(ids), len(ids) * len(text.encode(errors="replace")) // max(num_bytes, 1))

    async def _chat(self, messages: list[dict[str, Any]], tools: ToolUse | None) -> Prompt:
        if not self._tokenizer.has_template:
            raise UnsupportedOption("messages", "it has no chat template; /v1/completions takes plain prompts")
        if (
            not self._num_off_loop
            and tools is None
            and sum(len(_text(message.get("content"))) for message in messages) <= _OFF_LOOP_CHARS
        ):
            return self._rendered(messages, tools)
        self._num_off_loop += 1
        try:
            return await asyncio.to_thread(self._rendered, messages, tools)
        finally:
            self._num_off_loop -= 1

    def _rendered(self, messages: list[dict[str, Any]], tools: ToolUse | None) -> Prompt:
        if tools is None:
            text = self._tokenizer.render_chat([_plain(message) for message in messages])
        else:
            text = self._tokenizer.render_chat(tools.messages(messages), tools=tools.template_tools)
        ids = self._encoded(text, add_bos=False)  # the template wrote it
        if not ids:
            raise InvalidRequest("The model's chat template makes nothing of these messages.", param="messages")
        return Prompt(ids, text)

    def _given(self, prompts: list[str] | list[list[int]]) -> list[Prompt]:
        return [self._prompt(prompt) for prompt in prompts]

    def _prompt(self, prompt: str | list[int]) -> Prompt:
        text = prompt if isinstance(prompt, str) else None
        ids = self._encoded(prompt) if isinstance(prompt, str) else prompt
        if not ids:
            raise InvalidRequest("'prompt' must not be empty.", param="prompt")
        check_ids(ids, self._tokenizer.vocab_size, "prompt")
        return Prompt(ids, text)

    def _encoded(self, text: str, *, add_bos: bool = True) -> list[int]:
        if len(text) <= _OFF_LOOP_CHARS:
            return self._tokenizer.encode(text, add_bos=add_bos)
        return self._tokenizer.encode_up_to(text, self._limit_tokens, add_bos=add_bos)


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as chat templates know them: content as one string, and ``developer``, its newer name, as system."""
    role = "system" if message["role"] == "developer" else message["role"]
    return {"role": role, "content": _text(message.get("content"))}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return "" if content is None else str(content)
