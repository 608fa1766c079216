"""Labelled pairs as the guards and the score see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genkan.cache.evaluation.labelled import LabelledPair
from genkan.cache.features import Vector, features
from genkan.cache.guards import refusal
from genkan.cache.normalise import canonical
from genkan.cache.question import Question
from genkan.cache.score import Matrix
from genkan.cache.seekable import MOST_CHARACTERS, may_be, obstacle

Bools = NDArray[np.bool_]
#: Texts in their canonical spelling to vectors of unit length, float32, a row each.
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
#: The language of a text that is in none with guards.
NO_LANGUAGE = "other"
#: Why a pair is not served one of whose texts no like question is ever sought for: see `genkan.cache.seekable`.
UNSOUGHT = "not sought"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Pairs taken apart, a row each."""

    cosines: Vector
    same: Bools
    languages: NDArray[np.str_]  # of the first text
    refusals: NDArray[np.str_]  # the first guard that refuses, or `UNSOUGHT`; empty if the pair may be served
    features: Matrix

    def __len__(self) -> int:
        return len(self.same)

    @property
    def passed(self) -> Bools:
        """Which no guard refuses, and are sought."""
        return np.asarray(self.refusals == "")

    def where(self, chosen: Bools) -> Self:
        """Some of the rows."""
        return type(self)(
            cosines=self.cosines[chosen],
            same=self.same[chosen],
            languages=self.languages[chosen],
            refusals=self.refusals[chosen],
            features=self.features[chosen],
        )


def compare(pairs: Sequence[LabelledPair], embed: Embed) -> Compared:
    """Cosine, guards and features of every pair. ``embed`` is called once, with each text once; texts that are too long
    to be sought are not embedded, and their cosine is 0.

    Cost, without the vectors: about 0.5 ms a pair.
    """
    known = dict.fromkeys(canonical(text) for pair in pairs for text in (pair.one, pair.two))
    texts = [text for text in known if len(text) <= MOST_CHARACTERS]
    vectors = dict(zip(texts, embed(texts), strict=True)) if texts else {}
    cosines, languages, refusals, rows = list[float](), list[str](), list[str](), list[Vector]()
    for one, two, _ in pairs:
        question, other = Question.of(one), Question.of(two)
        ours, theirs = vectors.get(canonical(one)), vectors.get(canonical(two))
        cosine = 0.0 if ours is None or theirs is None else float(ours @ theirs)
        cosines.append(cosine)
        languages.append(question.language or NO_LANGUAGE)
        is_sought = all(may_be(text) for text in (one, two)) and not (obstacle(question) or obstacle(other))
        refusals.append(refusal(question, other) or ("" if is_sought else UNSOUGHT))
        rows.append(features(question, other, cosine))
    return Compared(
        cosines=np.array(cosines),
        same=np.array([pair.same for pair in pairs], dtype=bool),
        languages=np.array(languages, dtype=np.str_),
        refusals=np.array(refusals, dtype=np.str_),
        features=np.array(rows),
    )
