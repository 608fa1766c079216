"""Which requests may share an answer: everything that can change it, as digests under a secret.

Theory. Nearly every published failure of an answer cache is one of scope: a key that leaves out the tenant, the system
prompt or the temperature, or that joins texts so that two requests give one. So all of the body counts, whatever this
version knows of it, but for the short list `NO_MATTER`; and what counts is written as one JSON array with sorted keys,
which two different requests cannot share. A new option of a provider is part of the scope before anyone here has heard
of it: at worst it keeps requests apart that could share.

Digests are keyed, so that who reads Redis cannot try out prompts. Keyed BLAKE2b is a MAC by design (RFC 7693, 2.9), and
takes a third of what HMAC-SHA256 does. Of 128 bits two among 2^40 answers are the same with a chance of 2^-49.
"""

import hashlib
from typing import Any, Final, NamedTuple

import orjson

from genkan.cache.derived_key import derived_key
from genkan.cache.normal_form import normal_form
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.extras import OWN_KEYS

DIGEST_BYTES = 16
_VERSION = 1  # of what goes into the digests, `normal_form` included
#: Keys of a body that cannot change what is answered: how it is sent, how it is billed, filed or hurried, by which name
#: the provider's own cache knows it, whom to hold responsible; and ours. ``store: true`` is never answered from here.
NO_MATTER: Final = OWN_KEYS | {
    "stream",
    "stream_options",
    "store",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "user",
    "safety_identifier",
}
_EXACT_FLOAT = float(2**53)


class Scope(NamedTuple):
    """Requests with the same ``partition`` differ in nothing but their last user text; digests of 16 bytes."""

    partition: bytes
    exact: bytes  # with that text as it was sent
    key: bytes  # with that text in its normal form: where the answer is kept
    text: str | None  # that text; None if it is no chat that ends with one text of a user's, so that nothing is fuzzy


class Scopes:
    """Scopes under one secret. Under another all digests are others."""

    def __init__(self, secret: bytes) -> None:
        key = derived_key(secret, b"scope")
        # Copied for each request: a keyed state that is there already costs a third of a new one.
        self._partition, self._exact, self._key = (
            hashlib.blake2b(digest_size=DIGEST_BYTES, key=key, person=person)
            for person in (b"genkan.partition", b"genkan.exact", b"genkan.normal")
        )

    def of(
        self, request: GenerationRequest, *, tenant: str, route: str, models: bytes, normalised: bool, per_user: bool
    ) -> Scope:
        """The scope of a request that ``tenant`` makes of ``route``.

        ``models`` stands for the models that may answer and their revisions. Not ``normalised``, the key is the exact
        digest; ``per_user``, what the body calls its user counts too. Cost: about 3 µs for a short chat and 2 µs a KB,
        and 10 µs for the normal form of its last text.
        """
        raw = request.raw
        fields = {name: _number(value) for name, value in raw.items() if name not in NO_MATTER}
        text = None
        if isinstance(request, ChatRequest):
            text = _last_text(request.messages)
            if text is not None:
                fields["messages"] = [*request.messages[:-1], _without_text(request.messages[-1])]
            # Two names of one option.
            fields.pop("max_completion_tokens", None)
            fields.pop("max_tokens", None)
            if (max_tokens := request.sampling.max_tokens) is not None:
                fields["max_tokens"] = max_tokens
        user = (raw.get("user"), raw.get("safety_identifier")) if per_user else None
        head = (_VERSION, tenant, route, models.hex(), user, request.path, text is not None, fields)
        digest = self._partition.copy()
        digest.update(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
        return self._with_text(digest.digest(), text, normalised)

    def _with_text(self, partition: bytes, text: str | None, normalised: bool) -> Scope:
        digest = self._exact.copy()
        digest.update(partition if text is None else partition + text.encode())
        exact = digest.digest()
        if text is None or not normalised:
            return Scope(partition, exact, exact, text)
        digest = self._key.copy()
        digest.update(partition + normal_form(text).encode())
        return Scope(partition, exact, digest.digest(), text)


def _number(value: Any) -> Any:
    """1 for 1.0: JSON's numbers are the same however they are written, and options are numbers."""
    if type(value) is float and value.is_integer() and abs(value) < _EXACT_FLOAT:
        return int(value)
    return value


def _last_text(messages: list[dict[str, Any]]) -> str | None:
    """The text of the last message, if that is a user's and holds one text."""
    last = messages[-1]
    if last.get("role") != "user":
        return None
    content = last.get("content")
    if type(content) is list and len(content) == 1 and content[0].get("type") == "text":
        content = content[0].get("text")
    return content if type(content) is str else None


def _without_text(message: dict[str, Any]) -> dict[str, Any]:
    """The message with null for its text, in the same shape."""
    content = message["content"]
    return {**message, "content": None if type(content) is str else [{**content[0], "text": None}]}
