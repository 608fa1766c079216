"""What a key looks like, and what is kept in its place."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.gateway.key_format import digest, digester, fingerprint, looks_right, mint

#: Of 160 bits that are all 0, with the checksum as another CRC-32 gives it.
ZERO = b"gk-" + b"0" * 27
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def crc32_bit_by_bit(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def with_checksum(body: bytes) -> bytes:
    number, digits = crc32_bit_by_bit(body), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return body + digits.encode()


def test_a_minted_key_has_its_form_and_its_checksum() -> None:
    for _ in range(200):
        key = mint().encode()
        assert (len(key), key[:3]) == (36, b"gk-")
        assert key == with_checksum(key[:30])
        assert looks_right(key)


def test_no_two_minted_keys_have_anything_in_common_but_their_prefix() -> None:
    bodies = [mint()[3:30] for _ in range(2000)]
    assert len(set(bodies)) == 2000
    for place in range(1, 27):  # 62**27 is more than 2**160, so the first character is never a high one
        assert len({body[place] for body in bodies}) == 62


@pytest.mark.parametrize("place", range(36))
def test_one_wrong_character_shows(place: int) -> None:
    key = with_checksum(ZERO)
    assert looks_right(key)
    for other in (b"1", b"z", b"-", b"\xc3", b"\0"):
        changed = key[:place] + other + key[place + 1 :]
        assert looks_right(changed) == (changed == key)


@pytest.mark.parametrize(
    "presented",
    [b"", b"gk-", b"gk-" + b"0" * 33, with_checksum(ZERO) + b"\n", b" " + with_checksum(ZERO), b"x" * 65536],
)
def test_what_is_no_key_does_not_look_like_one(presented: bytes) -> None:
    assert not looks_right(presented)


@given(st.binary(max_size=100))
def test_junk_never_looks_right(junk: bytes) -> None:
    assert not looks_right(junk)


def test_two_characters_swapped_show() -> None:
    key = mint()
    at = next(place for place in range(3, 29) if key[place] != key[place + 1])
    assert not looks_right((key[:at] + key[at + 1] + key[at] + key[at + 2 :]).encode())


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_the_digest_is_hmac_sha_256_however_it_is_made(secret: bytes, presented: bytes) -> None:
    expected = hmac.new(secret, presented, "sha256").hexdigest()
    assert digest(secret, presented) == expected
    assert digester(secret)(presented) == expected


def test_a_digester_can_be_used_again() -> None:
    digest_of = digester(b"s" * 32)
    assert [digest_of(b"a"), digest_of(b"b"), digest_of(b"a")] == [digest(b"s" * 32, key) for key in (b"a", b"b", b"a")]


def test_a_fingerprint_tells_secrets_apart() -> None:
    assert fingerprint(b"a" * 32) == fingerprint(b"a" * 32) != fingerprint(b"b" * 32)
    assert len(fingerprint(b"a" * 32)) == 16
