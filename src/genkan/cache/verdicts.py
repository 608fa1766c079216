"""What a judge has said of two questions, so that it is not asked again and its no is final."""

from collections import OrderedDict


class Verdicts:
    """By the keys of two answers, in either order; the latest are kept. A key stands for a question and all its scope,
    not for one answer: a verdict outlives both answers, and holds for the next ones."""

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[bytes, bytes], bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def note(self, one: bytes, other: bytes, same: bool) -> None:
        """A judge says whether the answer of one is right for the other."""
        pair = _pair(one, other)
        self._kept[pair] = same
        self._kept.move_to_end(pair)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def of(self, one: bytes, other: bytes) -> bool | None:
        """What was said; None: nothing yet."""
        return self._kept.get(_pair(one, other))


def _pair(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    return (one, other) if one <= other else (other, one)
