"""The prefix cache as people read it: tenants by name, and beside token ids the text that they stand for."""

from typing import Any

from genkan.serving.namespaces import Namespaces
from genkan.upstream.tokenizer import TextTokenizer

_ID_DIGITS = 12


def described(snapshot: dict[str, Any], namespaces: Namespaces, tokenizer: TextTokenizer) -> dict[str, Any]:
    """``snapshot`` (see ``PrefixCache.snapshot``), changed in place.

    Each namespace gets its ``tenant``, None for one that is not known, and a short name instead of all its bytes; each
    node a ``text``, that of its ``first_tokens``.
    """
    for namespace in snapshot["namespaces"]:
        name = bytes.fromhex(namespace["namespace"])
        namespace["tenant"] = namespaces.tenant_of(name)
        namespace["namespace"] = name.hex()[-_ID_DIGITS:]
        nodes = list(namespace["children"])
        for node in nodes:  # grows as it is walked
            node["text"] = tokenizer.decode(node["first_tokens"])
            nodes.extend(node["children"])
    return snapshot
