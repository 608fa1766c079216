"""Commands as bytes, and scripts."""

import hashlib

import pytest

from genkan.store.command import Script, packed


def test_a_command_is_packed_as_redis_wants_it() -> None:
    assert (
        packed("SET", b"k\r\n\x00", "ü", -12)
        == b"*4\r\n$3\r\nSET\r\n$4\r\nk\r\n\x00\r\n$2\r\n\xc3\xbc\r\n$3\r\n-12\r\n"
    )


def test_a_script_is_loaded_once_with_the_name_that_redis_gives_it() -> None:
    script = Script.load("read_circuits")
    assert "HGETALL" in script.text
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()
    assert Script.load("read_circuits") is script


def test_a_script_that_is_not_there_cannot_be_loaded() -> None:
    with pytest.raises(FileNotFoundError):
        Script.load("nothing")


def test_a_script_is_called_by_its_name() -> None:
    script = Script.of("return 1")
    assert script.command(["a", b"b"], [1]) == packed("EVALSHA", script.sha, 2, "a", "b", 1)
