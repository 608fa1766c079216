"""What workers tell each other survives being written, and nothing else is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_rigs import entry, name, vectors

from genkan.cache.index.base import Entry
from genkan.cache.index.record import Added, Observed, Purged, Record, Removed, as_kept, read, written

NAMES = st.text(max_size=20)


@given(text=st.text(max_size=300), tenant=NAMES, route=NAMES, expires_s=st.floats(0, 1e11), seed=st.integers(0, 99))
def test_an_entry_is_read_as_every_worker_keeps_it(
    text: str, tenant: str, route: str, expires_s: float, seed: int
) -> None:
    vector = as_kept(vectors(1, seed=seed, dim=384)[0])
    assert vector is not None
    found = read(written(Added(Entry(name("k"), name("p"), text, vector, expires_s, tenant, route))))
    assert isinstance(found, Added)
    kept = found.entry
    assert (kept.key, kept.partition, kept.text) == (name("k"), name("p"), text)
    assert (kept.expires_s, kept.tenant, kept.route) == (expires_s, tenant, route)
    assert np.array_equal(kept.vector, vector)


@pytest.mark.parametrize(
    "record",
    [
        Removed(name("k"), name("p")),
        Observed(name("k"), name("p"), 0.5, True),
        Observed(name("k"), name("p"), -7.25, False),
        Purged(None, None),
        Purged("", None),
        Purged("công ty", "대화"),
    ],
)
def test_other_records_are_read_as_they_were_written(record: Record) -> None:
    assert read(written(record)) == record


@pytest.mark.parametrize(
    "record", [Added(entry("how?", vectors(1)[0])), Removed(name("k"), name("p")), Purged("acme", "chat")]
)
def test_what_is_cut_off_or_too_long_is_refused(record: Record) -> None:
    data = written(record)
    for damaged in [*(data[:end] for end in range(len(data))), data + b"\x00", b"z" + data[1:]]:
        with pytest.raises(ValueError):  # noqa: PT011 (any: no two say the same)
            read(damaged)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_record_or_a_value_error(data: bytes) -> None:
    try:
        record = read(data)
    except ValueError:
        return
    assert isinstance(record, Added | Removed | Observed | Purged)


def test_what_is_too_long_to_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="format requires"):
        written(Purged("a" * 70_000, None))
    with pytest.raises(ValueError, match="too large"):
        written(Observed(name("k"), name("p"), 1e300, True))


def test_a_kept_vector_has_unit_length_and_points_where_it_did() -> None:
    for vector in vectors(50, dim=384):
        kept = as_kept(np.float32(1.04) * vector)
        assert kept is not None
        assert float(kept @ kept) == pytest.approx(1.0, abs=1e-6)
        assert float(kept @ vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("wrong", [np.zeros(4), np.full(4, np.nan), np.full(4, 1.0), np.ones((2, 2)) / 2])
def test_what_is_no_unit_vector_is_not_kept(wrong: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    assert as_kept(wrong.astype(np.float32)) is None
