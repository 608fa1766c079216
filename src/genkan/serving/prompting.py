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
    """One prompt; ``text`` is None for one that came as ids."""

    ids: Sequence[int]
    text: str | None


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
