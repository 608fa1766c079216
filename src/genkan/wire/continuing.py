"""``continue_text``: the beginning of an answer, written elsewhere, that the model is to go on from.

It is genkan's own, for its engine: no other upstream knows it. The text counts as said by the model: for
``max_tokens``, ``min_tokens``, penalties, the form of the answer, stop strings. Only what comes after it is answered.
"""

from typing import Final

from genkan.errors import InvalidRequest
from genkan.wire.chat import CompletionRequest, GenerationRequest
from genkan.wire.fields import Fields

CONTINUE_TEXT: Final = "continue_text"
MAX_CONTINUED_BYTES: Final = 4 << 20


def beginning_of(request: GenerationRequest) -> str | None:
    """The text that ``request`` has its answer begin with, None for none.

    Raises InvalidRequest for one that is empty or too long, and where it would not be clear which answer it begins.
    """
    if CONTINUE_TEXT not in request.raw or (text := Fields(request.raw).string(CONTINUE_TEXT)) is None:
        return None
    if not text:
        raise _refused("must not be empty; leave it out")
    if 4 * len(text) > MAX_CONTINUED_BYTES and len(text.encode(errors="surrogatepass")) > MAX_CONTINUED_BYTES:
        raise _refused(f"must be at most {MAX_CONTINUED_BYTES} bytes")
    if (n := request.sampling.n) > 1:
        raise _refused(f"begins one answer, and 'n' is {n}")
    if isinstance(request, CompletionRequest):
        if (given := len(request.prompts)) > 1:
            raise _refused(f"begins the answer to one prompt; given: {given} prompts")
        if request.echo:
            raise _refused("and 'echo' exclude each other")
    return text


def _refused(problem: str) -> InvalidRequest:
    return InvalidRequest(f"'{CONTINUE_TEXT}' {problem}.", param=CONTINUE_TEXT)
