"""Nothing is read that we did not write, for that place."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.sealer import Sealer, Unreadable

SECRET = b"s" * 32
SEALERS = [Sealer(SECRET, encrypt=False), Sealer(SECRET, encrypt=True)]
TEXT = b"The order is on its way. " * 100


@pytest.fixture(params=SEALERS, ids=["tagged", "encrypted"])
def sealer(request: pytest.FixtureRequest) -> Sealer:
    assert isinstance(request.param, Sealer)
    return request.param


@given(plain=st.binary(max_size=5000), bound_to=st.binary(max_size=100), encrypt=st.booleans())
def test_what_is_sealed_can_be_opened(plain: bytes, bound_to: bytes, encrypt: bool) -> None:
    sealer = SEALERS[encrypt]
    assert sealer.open(sealer.seal(plain, bound_to), bound_to) == plain


def test_text_is_compressed(sealer: Sealer) -> None:
    assert len(sealer.seal(TEXT, b"k")) < len(TEXT) / 5


def test_only_encrypted_it_cannot_be_read() -> None:
    plain = b"my order"
    assert plain in SEALERS[0].seal(plain, b"k")
    assert plain not in SEALERS[1].seal(plain, b"k")
    assert SEALERS[1].seal(plain, b"k") != SEALERS[1].seal(plain, b"k")


@pytest.mark.parametrize("plain", [b"short", TEXT])
def test_any_changed_bit_is_seen(sealer: Sealer, plain: bytes) -> None:
    sealed = sealer.seal(plain, b"k")
    for at in range(len(sealed)):
        with pytest.raises(Unreadable):
            sealer.open(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"k")


@pytest.mark.parametrize("plain", [b"short", TEXT])
def test_what_is_cut_off_or_longer_is_seen(sealer: Sealer, plain: bytes) -> None:
    sealed = sealer.seal(plain, b"k")
    for cut in range(len(sealed)):
        with pytest.raises(Unreadable):
            sealer.open(sealed[:cut], b"k")
    with pytest.raises(Unreadable):
        sealer.open(sealed + b"\x00", b"k")


def test_it_is_for_one_place_one_secret_and_one_way(sealer: Sealer) -> None:
    sealed = sealer.seal(TEXT, b"k")
    others = [Sealer(b"z" * 32, encrypt=encrypt) for encrypt in (False, True)]
    for other in (*others, *(each for each in SEALERS if each is not sealer)):
        with pytest.raises(Unreadable):
            other.open(sealed, b"k")
    with pytest.raises(Unreadable):
        sealer.open(sealed, b"l")


def test_where_a_place_ends_is_part_of_it(sealer: Sealer) -> None:
    sealed = sealer.seal(b"cd", b"ab")
    with pytest.raises(Unreadable):
        sealer.open(sealed, b"abc")


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_bomb_does_not_go_off(encrypt: bool) -> None:
    sealer = Sealer(SECRET, encrypt=encrypt, max_plain_bytes=100_000)
    assert len(sealer.open(sealer.seal(bytes(100_000), b"k"), b"k")) == 100_000
    with pytest.raises(Unreadable, match="larger"):
        sealer.open(sealer.seal(bytes(100_001), b"k"), b"k")


def test_what_is_no_compressed_text_is_seen() -> None:
    sealer = SEALERS[0]
    head = b"t\x01"
    for deflated in (b"none", zlib.compress(TEXT)[:-1], zlib.compress(TEXT) + b"more"):
        with pytest.raises(Unreadable):
            sealer.open(head + sealer._box.lock(deflated, head + b"k"), b"k")
