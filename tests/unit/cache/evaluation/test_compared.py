"""Pairs as guards and score see them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from word_vectors import word_vectors

from genkan.cache.evaluation.compared import UNSOUGHT, compare
from genkan.cache.evaluation.labelled import LabelledPair
from genkan.cache.features import features
from genkan.cache.question import Question

PAIRS = [
    LabelledPair("How do I reset my password?", "How  can I reset my password?", True),
    LabelledPair("Is it open for 7 days?", "Is it open for 14 days?", False),
    LabelledPair("비밀번호를 어떻게 바꾸나요?", "비밀번호 변경 방법 알려주세요", True),
    LabelledPair("Wie ändere ich mein Passwort?", "How do I reset my password?", True),
]


def test_each_pair_is_a_row() -> None:
    compared = compare(PAIRS, word_vectors)
    assert len(compared) == 4
    assert compared.same.tolist() == [True, False, True, True]
    assert compared.languages.tolist() == ["en", "en", "ko", "other"]
    assert compared.refusals.tolist()[:2] == ["", "numbers"]
    assert compared.refusals.tolist()[3] == "language"
    assert compared.passed.tolist()[:2] == [True, False]
    one, two = (Question.of(text) for text in PAIRS[0][:2])
    assert np.array_equal(compared.features[0], features(one, two, compared.cosines[0]))


def test_every_text_is_embedded_once_in_its_canonical_spelling() -> None:
    asked = list[list[str]]()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.append(list(texts))
        return word_vectors(texts)

    compared = compare([*PAIRS, *PAIRS], embed)
    assert [len(texts) for texts in asked] == [7]
    assert "How can I reset my password?" in asked[0]
    assert np.array_equal(compared.cosines[:4], compared.cosines[4:])


def test_what_the_gateway_would_never_seek_is_not_served_here() -> None:
    """Nor does one text that no embedder takes end the evaluation of all others."""
    long = "How do I reset my password? " * 50
    pairs = [
        LabelledPair(long, long, True),
        LabelledPair("Password reset?", "Reset the password!", True),
        LabelledPair("Why is `foo` slow in the loop?", "Why is `foo` so slow in a loop?", True),
        PAIRS[0],
    ]

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        assert max(map(len, texts)) <= 400
        return word_vectors(texts)

    compared = compare(pairs, embed)
    assert compared.refusals.tolist() == [UNSOUGHT] * 3 + [""]
    assert compared.cosines[0] == 0.0
    assert compared.passed.tolist() == [False] * 3 + [True]


def test_some_of_the_rows() -> None:
    compared = compare(PAIRS, word_vectors)
    english = compared.where(np.asarray(compared.languages == "en"))
    assert (len(english), english.refusals.tolist()) == (2, ["", "numbers"])
    assert english.features.shape == (2, compared.features.shape[1])
