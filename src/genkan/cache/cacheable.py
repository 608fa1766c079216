"""Of which requests an answer can be stored."""

from genkan.wire.chat import CompletionRequest, GenerationRequest

#: What makes an answer more than one text that would be the same tomorrow: other choices, numbers beside the text,
#: sound, what is on the web or in other people's stores right now, an answer that is filed elsewhere, or from a model
#: nobody here chose. With null or false they are as if they were not there.
_MORE = frozenset(
    {
        "audio",
        "background",
        "data_sources",
        "enable_search",
        "fallbacks",
        "kv_transfer_params",
        "logprobs",
        "mcp_servers",
        "models",
        "plugins",
        "prompt_logprobs",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "search_parameters",
        "store",
        "top_logprobs",
        "use_beam_search",
        "web_search",
        "web_search_options",
    }
)


def is_deterministic(request: GenerationRequest) -> bool:
    """Whether the client wants the same answer each time: it gave a ``seed``, or a ``temperature`` of 0."""
    sampling = request.sampling
    return sampling.temperature == 0 or sampling.seed is not None


def is_storable(request: GenerationRequest) -> bool:
    """Whether one plain text can come of it, and nothing that is true only now. Cost: about 0.5 µs."""
    raw = request.raw
    if request.sampling.n != 1 or not _is_one_prompt(request):
        return False
    if not _MORE.isdisjoint(raw) and any(raw.get(name) is not None and raw[name] is not False for name in _MORE):
        return False
    if "modalities" in raw and raw["modalities"] not in (None, ["text"]):
        return False
    return "tools" not in raw or _are_functions(raw["tools"])


def _is_one_prompt(request: GenerationRequest) -> bool:
    if not isinstance(request, CompletionRequest):
        return True
    return len(request.prompts) == 1 and request.raw.get("best_of") in (None, 1)


def _are_functions(tools: object) -> bool:
    """Whether all tools are the client's own: the provider's look something up while they answer."""
    if tools is None:
        return True
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and tool.get("type") in ("function", "custom") for tool in tools
    )
