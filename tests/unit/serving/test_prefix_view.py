"""The prefix cache as people read it."""

from typing import Any

from genkan.serving.namespaces import Namespaces
from genkan.serving.prefix_view import described
from genkan.upstream.tokenizer import TextTokenizer


def node(tokens: list[int], *children: dict[str, Any]) -> dict[str, Any]:
    return {"first_tokens": tokens, "num_tokens": 16, "children": list(children)}


def snapshot(*namespaces: tuple[bytes, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"pages": 3, "namespaces": [{"namespace": name.hex(), "children": nodes} for name, nodes in namespaces]}


def test_a_namespace_has_its_tenant_and_a_short_name(tokenizer: TextTokenizer) -> None:
    known, other = Namespaces(("a", "b")), Namespaces(("c",))
    names = [known.of("b", None), known.of("b", "salt"), other.of("c", None)]
    seen = described(snapshot(*((name, []) for name in names)), known, tokenizer)
    assert [namespace["tenant"] for namespace in seen["namespaces"]] == ["b", "b", None]
    assert [namespace["namespace"] for namespace in seen["namespaces"]] == [name.hex()[-12:] for name in names]
    assert seen["namespaces"][0]["namespace"] != seen["namespaces"][1]["namespace"]


def test_every_node_has_its_text(tokenizer: TextTokenizer) -> None:
    texts = ["Once upon", " a time", " there was", "Người Việt"]
    first, second, third, fourth = [node(tokenizer.encode(text)) for text in texts]
    first["children"].append(second)
    second["children"].append(third)
    seen = described(snapshot((b"x" * 32, [first, fourth])), Namespaces(()), tokenizer)
    assert [each["text"] for each in (first, second, third, fourth)] == texts
    assert seen["namespaces"][0]["children"] == [first, fourth]
    assert len(seen["namespaces"][0]["children"]) == 2


def test_what_else_is_there_stays(tokenizer: TextTokenizer) -> None:
    given = snapshot((b"x" * 32, [node([1], node([2]))]))
    seen = described(given, Namespaces(()), tokenizer)
    assert seen is given
    assert seen["pages"] == 3
    assert seen["namespaces"][0]["children"][0]["num_tokens"] == 16
