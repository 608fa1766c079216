"""Labelled pairs by the hundred, for tests of what is fitted to them."""

from genkan.cache.evaluation.labelled import LabelledPair

_THINGS = ("parcel", "invoice", "password", "address", "voucher", "ticket", "licence", "contract", "photo", "garden")
_DEEDS = ("find", "change", "print", "send", "read", "copy", "store", "sell")


def english_pairs() -> list[LabelledPair]:
    """160 pairs: each question beside itself in other words, and beside another one."""
    pairs = list[LabelledPair]()
    for place, thing in enumerate(_THINGS):
        for deed in _DEEDS:
            question = f"How do I {deed} the {thing} that the customer service promised?"
            other = f"How do I {deed} the {_THINGS[place - 1]} near the old town hall of my sister?"
            pairs.append(
                LabelledPair(question, f"How can I {deed} the {thing} that customer service promised me?", True)
            )
            pairs.append(LabelledPair(question, other, False))
    return pairs
