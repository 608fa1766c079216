"""How many tokens a prompt has, asked of a server that has vLLM's ``POST /tokenize``, as our engine does.

Source: vLLM's ``TokenizeCompletionRequest``, ``TokenizeChatRequest`` and ``TokenizeResponse``.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from genkan.errors import UpstreamError
from genkan.wire.chat import CompletionRequest, GenerationRequest

TOKENIZE_PATH: Final = "/tokenize"
#: What of a request says what its prompt is. Not ``continue_text``, which takes of the room for the answer.
_OF_PROMPTS: Final = frozenset(
    {
        "messages", "prompt", "tools", "tool_choice", "parallel_tool_calls", "documents", "reasoning_effort",
        "chat_template", "chat_template_kwargs", "add_generation_prompt", "add_special_tokens",
        "continue_final_message", "mm_processor_kwargs",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What such a server answers."""

    count: int
    max_model_len: int


class Posts(Protocol):
    """An upstream that speaks HTTP."""

    async def post(self, path: str, body: bytes, *, limit_s: float) -> bytes:
        """The body of an answer with status 200, in time. Raises UpstreamError."""


async def counted(upstream: Posts, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
    """The tokens of the request's prompt for ``model``; None where the server does not say. Raises nothing.

    Prompts of token ids are counted here.
    """
    if isinstance(request, CompletionRequest) and not isinstance(request.prompts[0], str):
        return sum(map(len, request.prompts))
    body = {name: value for name, value in request.raw.items() if name in _OF_PROMPTS}
    try:
        answer = orjson.loads(
            await upstream.post(TOKENIZE_PATH, orjson.dumps({**body, "model": model}), limit_s=limit_s)
        )
    except (UpstreamError, ValueError, TypeError):  # the last two: it is no JSON, or cannot be written
        return None
    count: Any = answer.get("count") if type(answer) is dict else None
    return count if type(count) is int and count >= 0 else None


def beside_v1(base_path: str) -> str:
    """The path of such a server's ``/tokenize``; ``base_path`` is where it has OpenAI's API, ``/v1`` as a rule."""
    return base_path.removesuffix("/").removesuffix("/v1") + TOKENIZE_PATH
