"""What the semantic tier asks of models: verdicts on doubtful pairs, and vectors of questions."""

import logging
import os
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from genkan.cache.judge import Ask, Reply
from genkan.cache.semantic import Embed
from genkan.errors import RequestError
from genkan.upstream.base import Answer, Responder
from genkan.upstream.embeddings import Embeds
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest

#: Under what name verdicts stand in logs, limits and the ledger.
JUDGE_TENANT = "genkan-judge"
_MOST_TOKENS = 16
_log = logging.getLogger("genkan.cache")


def asking(responder: Responder, model: str, tenant: str = JUDGE_TENANT) -> Ask:
    """Asks ``model``, a model or a route of ``responder``'s, with temperature 0 and for a few tokens.

    No verdict is stored: the pair is judged once anyway, and must never be like another. What is returned raises
    RequestError as the responder does, and ValueError for a reply without text.
    """

    async def ask(instructions: str, matter: str) -> Reply:
        request = ChatRequest.from_object(
            {
                "model": model,
                "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": matter}],
                "temperature": 0,
                "max_tokens": _MOST_TOKENS,
                "genkan": {"cache": "no-store"},
            }
        )
        answer = await responder.respond(request, Caller(request_id=f"judge-{os.urandom(16).hex()}", tenant=tenant))
        try:
            return Reply(await _text(answer), answer.cost_nano_usd)
        finally:
            await answer.aclose()

    return ask


def question_vectors(embeds: Embeds) -> Embed:
    """Vectors from the embedder, one text at a time; None where it fails, which the caller counts as a miss."""

    async def embed(text: str, timeout_s: float) -> NDArray[np.float32] | None:
        try:
            embedded = await embeds.embed([text], timeout_s=timeout_s)
        except RequestError as error:
            _log.debug("a question was not embedded: %s", error.outcome)  # what it says may repeat the question
            return None
        vector: NDArray[np.float32] = embedded.vectors[0]
        return vector

    return embed


async def _text(answer: Answer) -> str:
    """What the answer says; its body is whole, as no stream was asked for, but an upstream may send one."""
    if answer.batches is None:
        return _content(orjson.loads(answer.body or b"null"), "message")
    pieces = [_content(orjson.loads(event), "delta") async for batch in answer.batches for event in batch]
    return "".join(pieces)


def _content(body: Any, holder: str) -> str:
    try:
        choices = body["choices"]
        content = choices[0][holder].get("content") if choices else ""
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("the judge's reply is no chat completion") from error
    return content if isinstance(content, str) else ""
