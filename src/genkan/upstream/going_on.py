"""How a server with OpenAI's API goes on with an answer that was begun elsewhere: whether it can, and what it is sent.

Theory. A model that is given the beginning of its answer goes on from there, as if it had written it: as the end of a
raw prompt, or as the last message of a chat, where its server leaves that message open. Nothing is generated twice,
but what had counted from the answer's beginning no longer does: a form that is to be kept, calls of tools, thoughts
that nobody sees any more, a stop string of which the text ends with a part. Such answers are asked for anew. Bounds of
length are lessened by what was said, as well as it is known. No I/O.

Source: vLLM's ``continue_final_message``, DeepSeek's "Chat prefix completion (beta)", Mistral's "Prefix".
"""

from typing import Any, Final, Literal

from genkan.upstream.base import Continuation, Way
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest
from genkan.wire.said import Said

Prefill = Literal["none", "message", "vllm", "prefix", "prefix-echoed"]

_BYTES_PER_TOKEN = 4
_TOKEN_BYTES = 8  # on the average of a whole answer no tokenizer's are longer, and pieces of two are
#: What holds for an answer from its beginning, as OpenAI, vLLM, SGLang and llama-server call it.
_FORMS: Final = frozenset(
    {
        "ebnf", "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "json_schema", "regex",
        "response_format", "structural_tag", "structured_outputs",
    }
)  # fmt: skip
#: What a client that steers these itself means by them, nobody here knows.
_STEERED: Final = frozenset({"add_generation_prompt", "continue_final_message", "continue_text", "echo"})
#: What tells of the prompt, or of all of the answer's tokens, or cuts the prompt.
_OF_THE_WHOLE: Final = frozenset(
    {"logprobs", "prompt_logprobs", "return_token_ids", "return_tokens_as_token_ids", "suffix"}
    | {"truncate_prompt_tokens"}
)
#: Chat templates take what stands between these, or before them, out of an assistant's message.
_THOUGHTS: Final = ("<think>", "</think>")
_AUDIO: Final = frozenset({"audio", "modalities"})
_BOUNDS: Final = ("max_tokens", "max_completion_tokens")


def tokens_of(said: Said) -> int:
    """How many tokens that has, about: one for each piece if they are as short as tokens, else for each four bytes."""
    if said.size_bytes <= _TOKEN_BYTES * said.pieces:
        return said.pieces
    return max(said.pieces, said.size_bytes // _BYTES_PER_TOKEN)


def beginning(said: Said, way: Way) -> Continuation:
    """What somebody is given to go on from in that ``way``, which is no replay.

    A chat template may cut off a text's last whitespace: that is left out of a prefill, to be said again, and is taken
    for one token.
    """
    text, tokens = said.text, tokens_of(said)
    if way == "prefill" and (is_open := said.open_text) != text:
        text, tokens = is_open, max(1, tokens - 1)
    return Continuation(way, text, tokens)


def way_on(request: GenerationRequest, said: Said, prefill: Prefill, *, takes_raw: bool = True) -> Way:
    """See Upstream; ``prefill`` is what the server understands in chats, ``takes_raw`` whether completions are raw.

    Cost: a few µs, and a copy of the text.
    """
    if isinstance(request, CompletionRequest):
        return "prompt" if takes_raw and _has_one_text(request) and _can_go_on(request, said) else "replay"
    if prefill == "none" or not isinstance(request, ChatRequest) or not _can_go_on(request, said):
        return "replay"
    if not (text := said.open_text) or any(mark in text for mark in _THOUGHTS):
        return "replay"
    is_open = request.messages[-1].get("role") == "assistant"  # it is a beginning already
    return "replay" if is_open or _calls(request.raw) or not _AUDIO.isdisjoint(request.raw) else "prefill"


def continued(body: dict[str, Any], request: GenerationRequest, on: Continuation, prefill: Prefill) -> dict[str, Any]:
    """``body``, the request as the server would get it, with the answer's beginning in it. It is not changed."""
    if isinstance(request, CompletionRequest):
        body = {**body, "prompt": f"{request.prompts[0]}{on.text}"}
    else:
        last: dict[str, Any] = {"role": "assistant", "content": on.text}
        if prefill.startswith("prefix"):
            last["prefix"] = True
        body = {**body, "messages": [*body["messages"], last]}
        if prefill == "vllm":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
    for name in _BOUNDS:
        if type(bound := body.get(name)) is int:
            body[name] = max(1, bound - on.tokens)
    if type(least := body.get("min_tokens")) is int:
        body["min_tokens"] = max(0, least - on.tokens)
    return body


def _can_go_on(request: GenerationRequest, said: Said) -> bool:
    sampling, raw = request.sampling, request.raw
    if not said.is_text or not said.size_bytes or sampling.n != 1:
        return False
    if any(raw.get(name) for name in _FORMS & raw.keys()) or not _STEERED.isdisjoint(raw):
        return False
    if sampling.max_tokens is not None and sampling.max_tokens <= tokens_of(said):
        return False
    return not said.ends_within(sampling.stop)


def _has_one_text(request: CompletionRequest) -> bool:
    is_whole = any(request.raw.get(name) is not None for name in _OF_THE_WHOLE & request.raw.keys())
    return not (is_whole or request.echo or len(request.prompts) > 1) and type(request.prompts[0]) is str


def _calls(raw: dict[str, Any]) -> bool:
    """Whether it might call a tool."""
    tools = bool(raw.get("tools")) and raw.get("tool_choice") != "none"
    return tools or (bool(raw.get("functions")) and raw.get("function_call") != "none")
