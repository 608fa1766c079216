"""Requests for embeddings as OpenAI's clients send them, and the answer in its shape."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from genkan.errors import InvalidRequest
from genkan.wire.embeddings import EmbeddingRequest, Encoding, embedding_pieces, shortened

ASK: dict[str, Any] = {"model": "e", "input": "xin chào"}


def parsed(**fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest.parse(json.dumps({**ASK, **fields}).encode(), max_inputs=3)


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    return caught.value


def body(vectors: Any, encoding: Encoding = "float", tokens: int = 7) -> dict[str, Any]:
    pieces = embedding_pieces(vectors, model="e", encoding=encoding, tokens=tokens)
    return dict(json.loads(b"".join(pieces)))


def test_one_text_or_several_in_their_order() -> None:
    request = parsed()
    assert (request.model, request.texts, request.encoding, request.dimensions) == ("e", ["xin chào"], "float", None)
    assert parsed(input=["a", "b", "a"]).texts == ["a", "b", "a"]


def test_reads_how_the_vectors_are_wanted() -> None:
    request = parsed(encoding_format="base64", dimensions=5, user="someone")
    assert (request.encoding, request.dimensions) == ("base64", 5)


def test_ignores_what_is_null() -> None:
    request = parsed(input_type=None, encoding_format=None, dimensions=None, user=None)
    assert (request.encoding, request.dimensions) == ("float", None)


def test_refuses_what_it_does_not_know() -> None:
    error = refusal(input_type="query")
    assert (error.param, error.code) == ("input_type", "unsupported_parameter")


def test_white_space_is_a_text() -> None:
    assert parsed(input=" ").texts == [" "]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": "x" * 257}, "model", "invalid_value"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", "b", "c", "d"]}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": {"text": "a"}}, "input", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": True}, "input", "invalid_type"),
        ({"input": ["a", None]}, "input[1]", "invalid_type"),
        ({"input": ["a", False]}, "input[1]", "invalid_type"),
        ({"input": [["a"]]}, "input[0]", "invalid_type"),
        ({"input": [[]]}, "input[0]", "invalid_type"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": 2.0}, "dimensions", "invalid_type"),
        ({"dimensions": 1 << 40}, "dimensions", "invalid_value"),
        ({"user": 5}, "user", "invalid_type"),
        ({"genkan": {"cache": "never"}}, "genkan.cache", "invalid_value"),
    ],
)
def test_says_which_field_is_wrong(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(**fields)
    assert (error.status, error.param, error.code) == (400, param, code)


@pytest.mark.parametrize(
    ("given", "param"), [([1, 2], "input[0]"), ([[1, 2], [3]], "input[0]"), (["a", 3], "input[1]")]
)
def test_token_ids_are_refused_and_it_says_why(given: Any, param: str) -> None:
    error = refusal(input=given)
    assert (error.param, error.code) == (param, "invalid_type")
    assert "token ids" in error.message


def test_the_answer_has_openais_shape() -> None:
    assert body(np.array([[0.5, -1.0], [0.25, 0.0]], np.float32)) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 0.0]},
        ],
        "model": "e",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


VECTORS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
    elements=st.floats(-1, 1, width=32),
)


@given(VECTORS)
def test_numbers_read_as_the_same_float32(vectors: Any) -> None:
    read = np.array([one["embedding"] for one in body(vectors)["data"]], np.float32)
    assert np.array_equal(read, vectors)


@given(VECTORS)
def test_base64_is_little_endian_float32(vectors: Any) -> None:
    for stored in (vectors, vectors.astype(">f4"), np.asfortranarray(vectors)):
        data = body(stored, "base64")["data"]
        read = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in data]
        assert np.array_equal(np.stack(read), vectors)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_long_answer_comes_in_pieces_and_misses_none(encoding: Encoding) -> None:
    vectors = np.random.default_rng(1).standard_normal((300, 384)).astype(np.float32)
    pieces = [*embedding_pieces(vectors, model="e", encoding=encoding, tokens=1)]
    assert max(map(len, pieces)) < 300_000
    assert [one["index"] for one in json.loads(b"".join(pieces))["data"]] == [*range(300)]


@settings(max_examples=50)
@given(VECTORS, st.integers(1, 9))
def test_shortened_vectors_have_the_same_direction_in_what_is_left_and_length_1(vectors: Any, dimensions: int) -> None:
    short = shortened(vectors, dimensions)
    kept = vectors[:, :dimensions]
    assert short.shape == kept.shape
    assert short.dtype == np.float32
    for one, whole in zip(short.astype(float), kept.astype(float), strict=True):
        length = np.linalg.norm(whole)
        if length == 0:
            assert not one.any()
        elif length > 1e-18:  # less has no square among float32
            assert one == pytest.approx(whole / length, abs=1e-5)


def test_shortened_vectors_can_be_written() -> None:
    short = shortened(np.asarray([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]], np.float32), 2)
    assert body(short)["data"][1]["embedding"] == [0.0, 1.0]
