"""What the semantic tier's guards and score are worth on labelled pairs.

``--train`` and ``--test`` take files of pairs: CSV (text_a, text_b, same) or JSON lines (a, b, same or same_answer).
``--vectors`` are .npz files with ``texts`` (in their canonical spelling) and ``vectors`` (unit length, float32) that
hold both texts of every pair; a pair without is left out and counted. Prints, for each test file, hits (served of the
pairs that are the same) and wrong answers (of those that are not) as raw cosine, with one guard after another, and
with the score; writes the score to ``--out``. A score is fitted on all pairs of ``--train``, refused ones too: there
are ten times as many, and what makes near pairs differ shows in them as well. Its thresholds are set on folds that
the fit did not see, for each language, on what passes the guards; a language without pairs to train on has that of
English for half the error rate. ``--label-noise`` is the share of English pairs labelled different that are not: they
would be served by a score that knows better than the label. The test files change nothing.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkan.cache.features import Vector, features
from genkan.cache.guards import GUARDS, refusal
from genkan.cache.normalise import canonical
from genkan.cache.question import Question
from genkan.cache.score import Score, fit, threshold_for

Bools = NDArray[np.bool_]
FOLDS = 5
L2 = 10.0
COSINES = (0.90, 0.92, 0.93, 0.95, 0.97, 0.98)


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs, taken apart: a row each."""

    cosines: Vector
    same: Bools
    languages: NDArray[np.str_]
    refusals: list[str | None]
    vectors: NDArray[np.float64]

    @property
    def passed(self) -> Bools:
        """Which no guard refuses."""
        return np.array([name is None for name in self.refusals])


def rows(path: Path) -> Iterator[tuple[str, str, bool]]:
    """The pairs of a file."""
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix == ".csv":
            for row in csv.DictReader(lines):
                yield row["text_a"], row["text_b"], row["same"] == "1"
        else:
            for line in lines:
                found = json.loads(line)
                yield found["a"], found["b"], bool(found.get("same", found.get("same_answer")))


def taken_apart(paths: list[Path], known: dict[str, NDArray[np.float32]]) -> Pairs:
    """Guards and features of every pair whose vectors are known."""
    cosines, same, refusals, vectors = list[float](), list[bool](), list[str | None](), list[Vector]()
    languages = list[str]()
    missing = 0
    for path in paths:
        for one, two, is_same in rows(path):
            left, right = known.get(canonical(one)), known.get(canonical(two))
            if left is None or right is None:
                missing += 1
                continue
            question, other, cosine = Question.of(one), Question.of(two), float(left @ right)
            cosines.append(cosine)
            same.append(is_same)
            languages.append(question.language or "")
            refusals.append(refusal(question, other))
            vectors.append(features(question, other, cosine))
    print(", ".join(map(str, paths)), f"{len(same)} pairs, {sum(same)} the same; {missing} without vectors")
    return Pairs(np.array(cosines), np.array(same), np.array(languages), refusals, np.array(vectors))


def fitted(train: Pairs, max_error_rate: float, label_noise: float, version: str) -> Score:
    """A score, and for each language the threshold of ``max_error_rate`` wrong of all its pairs that differ."""
    chances = np.full(len(train.same), -1.0)
    fold = np.arange(len(train.same)) % FOLDS
    for one in range(FOLDS):
        part = scored(train, fold != one, version)
        unseen = train.passed & (fold == one)
        chances[unseen] = part.probabilities(train.vectors[unseen])
    thresholds = {}
    for name in ("en", "vi", "ko"):
        known = name if name in train.languages else "en"
        rate = max_error_rate if known == name else max_error_rate / 2
        rate += label_noise if known == "en" else 0.0
        ours = train.languages == known
        thresholds[name] = threshold_for(chances[ours], train.same[ours], rate)
    return replace(scored(train, np.ones_like(train.same), version), thresholds=thresholds)


def scored(train: Pairs, seen: Bools, version: str) -> Score:
    """A score without thresholds."""
    weights, bias = fit(train.vectors[seen], train.same[seen], l2=L2)
    return Score(weights=weights, bias=bias, thresholds={}, version=version)


def told(served: Bools, same: Bools) -> str:
    """Hits and wrong answers, in percent and counted."""
    hits, wrong = served[same], served[~same]
    return f"hits {100 * hits.mean():5.1f} %  wrong {100 * wrong.mean():5.1f} % ({wrong.sum()} of {len(wrong)})"


def report(test: Pairs, score: Score) -> None:
    """The table of a test file."""
    for cosine in COSINES:
        near = test.cosines >= cosine
        print(f"  cosine >= {cosine:.2f}   {told(near, test.same)}   guarded {told(near & test.passed, test.same)}")
    left = np.ones(len(test.same), dtype=bool)
    for name, _ in GUARDS:
        left &= np.array([refused != name for refused in test.refusals])
        both = told(left & (test.cosines >= 0.95), test.same)
        print(f"  + {name:14} {told(left, test.same)}   and cosine >= 0.95 {both}")
    chances = np.where(test.passed, score.probabilities(test.vectors), -1.0)
    least = np.array([score.thresholds.get(name, 2.0) for name in test.languages.tolist()])
    print(f"  score at its own thresholds   {told(chances >= least, test.same)}")
    for rate in (0.0, 0.005, 0.01, 0.02, 0.05):
        threshold = threshold_for(chances, test.same, rate)
        print(
            f"  score, best for {100 * rate:3.1f} % wrong ({threshold:.3f})   {told(chances >= threshold, test.same)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--vectors", type=Path, nargs="+", required=True)
    parser.add_argument("--max-error-rate", type=float, default=0.01)
    parser.add_argument("--label-noise", type=float, default=0.0)
    parser.add_argument("--version", default="multilingual-e5-small")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    known: dict[str, NDArray[np.float32]] = {}
    for path in chosen.vectors:
        with np.load(path) as kept:
            known.update(zip(kept["texts"].tolist(), kept["vectors"], strict=True))
    score = fitted(taken_apart(chosen.train, known), chosen.max_error_rate, chosen.label_noise, chosen.version)
    for path in chosen.test:
        report(taken_apart([path], known), score)
    print("thresholds", {name: round(threshold, 3) for name, threshold in score.thresholds.items()})
    text = json.dumps(score.as_dict(), indent=2)
    if chosen.out is None:
        print(text)
    else:
        chosen.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
