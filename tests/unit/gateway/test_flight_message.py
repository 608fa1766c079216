"""What workers say to each other."""

import pytest

from genkan.cache.sealer import Sealer
from genkan.errors import EngineOverloaded, InvalidRequest, RequestError, UpstreamRefused
from genkan.gateway.flight_message import Kind, Message, Names, error_as_bytes, read_error
from genkan.wire.error_body import error_body

SEALER = Sealer(b"s" * 32, encrypt=False)
MESSAGE = Message(Kind.CHUNKS, b"k" * 16, "0123456789abcdef", b"f" * 8, 7, b'{"a":1}\n{"b":2}')


def test_it_is_read_as_it_was_sealed() -> None:
    assert Message.read(MESSAGE.sealed(SEALER), SEALER) == MESSAGE


@pytest.mark.parametrize("at", range(0, len(MESSAGE.sealed(SEALER)), 3))
def test_nothing_in_it_can_be_changed(at: int) -> None:
    sealed = bytearray(MESSAGE.sealed(SEALER))
    sealed[at] ^= 1
    assert Message.read(bytes(sealed), SEALER) is None


@pytest.mark.parametrize("length", [0, 1, 37, 38, 60])
def test_part_of_it_is_nothing(length: int) -> None:
    assert Message.read(MESSAGE.sealed(SEALER)[:length], SEALER) is None


def test_another_secret_reads_nothing() -> None:
    assert Message.read(MESSAGE.sealed(SEALER), Sealer(b"t" * 32, encrypt=False)) is None


@pytest.mark.parametrize("names", [Names("m@up", "m"), Names("", "", {"total_tokens": 7})])
def test_names(names: Names) -> None:
    assert Names.read(names.as_bytes()) == names


@pytest.mark.parametrize("body", [b"", b"[]", b'["a","b"]', b'["a","b",1]', b'[1,"b",null]', b"{}"])
def test_names_of_another_kind_are_refused(body: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        Names.read(body)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no such thing", param="x"),
        EngineOverloaded("later"),
        UpstreamRefused("no", upstream="up", status=422, kind="odd", code="own_code", param=None, retry_after_s=1.5),
    ],
)
def test_clients_get_an_error_as_it_was(error: RequestError) -> None:
    read = read_error(error_as_bytes(error))
    assert error_body(read) == error_body(error)
    assert (read.status, read.retry_after_s) == (error.status, error.retry_after_s)
