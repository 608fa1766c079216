"""OpenAI's embeddings: what clients ask, and the answer in its shape.

Source: OpenAI's API reference, "Create embeddings", November 2026. Its Python client asks for base64 unless it is told
otherwise: the bytes of little-endian float32.
"""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.wire.chat import MAX_MODEL_CHARS
from genkan.wire.extras import OWN_KEYS, Extras, read_extras
from genkan.wire.fields import Fields, WrongType, wrong_type
from genkan.wire.strict_json import parse_object

Encoding = Literal["float", "base64"]
Vectors = NDArray[np.float32]

_ENCODINGS = ("float", "base64")
_MAX_DIMENSIONS = 1 << 20
_NUMBERS_AT_ONCE = 16_384  # take 1 ms to write
_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user", *OWN_KEYS})


@dataclass(slots=True, kw_only=True)
class EmbeddingRequest:
    """A body of ``POST /v1/embeddings``. Options of other servers, such as ``input_type``, would change the vectors."""

    path: ClassVar[str] = "/v1/embeddings"

    model: Final[str]
    texts: Final[list[str]]  # at least one, and none empty
    encoding: Final[Encoding]
    dimensions: Final[int | None]  # to shorten the vectors to
    extras: Final[Extras]

    @classmethod
    def parse(cls, body: bytes, *, max_inputs: int) -> Self:
        """Raises InvalidRequest naming the field that is wrong, or not known: none is ignored, unless it is null.

        ``max_inputs`` is how many texts may come at once.
        """
        raw = parse_object(body)
        fields = Fields(raw)
        for name in raw.keys() - _KNOWN:
            if raw[name] is not None:
                raise UnsupportedOption(name[:200], "embeddings have no such option here")
        model = fields.string("model", max_chars=MAX_MODEL_CHARS)
        if model is None:
            raise fields.missing("model")
        fields.string("user")
        encoding: Any = fields.choice("encoding_format", _ENCODINGS)
        return cls(
            model=model,
            texts=_texts(fields.require("input"), max_inputs),
            encoding=encoding or "float",
            dimensions=fields.integer("dimensions", low=1, high=_MAX_DIMENSIONS),
            extras=read_extras(raw),
        )


def shortened(vectors: Vectors, dimensions: int) -> Vectors:
    """The first ``dimensions`` of each vector, at length 1 again. A vector that is 0 there stays 0."""
    short = vectors[:, :dimensions]
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    scaled = np.zeros_like(short)
    np.divide(short, lengths, where=lengths > 0, out=scaled)
    return scaled


def embedding_pieces(vectors: Vectors, *, model: str, encoding: Encoding, tokens: int) -> Iterator[bytes]:
    """The answer's body in pieces, so that whoever joins them can do something else in between.

    A piece takes a millisecond at most: 16,384 numbers, or one vector that has more. As numbers they are the shortest
    that read as the same float32.
    """
    rows = max(1, _NUMBERS_AT_ONCE // max(1, vectors.shape[1]))
    yield b'{"object":"list","data":['
    for start in range(0, len(vectors), rows):
        written = _written(vectors[start : start + rows], encoding)
        data = [
            {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(written, start)
        ]
        yield (b"," if start else b"") + orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield b"]," + orjson.dumps({"model": model, "usage": usage})[1:]


def _written(vectors: Vectors, encoding: Encoding) -> list[Vectors] | list[str]:
    if encoding == "float":
        return [*np.ascontiguousarray(vectors)]
    return [b64encode(vector.tobytes()).decode("ascii") for vector in vectors.astype("<f4", copy=False)]


def _texts(given: Any, max_inputs: int) -> list[str]:
    if type(given) is str:
        _check_text(given, "input")
        return [given]
    if type(given) is not list:
        raise wrong_type("input", "a string or a list of strings", given)
    if not 1 <= len(given) <= max_inputs:
        raise InvalidRequest(f"'input' must have 1 to {max_inputs} entries; given: {len(given)}.", param="input")
    for place, text in enumerate(given):
        _check_text(text, f"input[{place}]")
    return given


def _check_text(text: Any, path: str) -> None:
    if type(text) is str:
        if not text:
            raise InvalidRequest(f"'{path}' must not be empty.", param=path)
        return
    if type(text) is int or (type(text) is list and text and type(text[0]) is int):
        raise WrongType(
            f"'{path}' must be text: token ids are those of another model's tokenizer, and not accepted here.",
            param=path,
        )
    raise wrong_type(path, "a string", text)
