"""What a judge has said of pairs."""

from genkan.cache.verdicts import Verdicts


def test_a_verdict_is_of_a_pair_in_either_order_and_the_last_one_counts() -> None:
    verdicts = Verdicts()
    assert verdicts.of(b"a", b"b") is None
    verdicts.note(b"a", b"b", True)
    assert verdicts.of(b"b", b"a") is True
    verdicts.note(b"b", b"a", False)
    assert verdicts.of(b"a", b"b") is False
    assert verdicts.of(b"a", b"c") is None


def test_the_oldest_are_forgotten() -> None:
    verdicts = Verdicts(limit=2)
    for other in (b"b", b"c", b"d"):
        verdicts.note(b"a", other, True)
    assert len(verdicts) == 2
    assert verdicts.of(b"a", b"b") is None
    assert verdicts.of(b"a", b"d") is True
