"""What a Redis URL says, and that errors and logs never have its password."""

import pytest

from genkan.errors import ConfigError
from genkan.store.address import Address, parse_address

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", Address(host="cache")),
        ("redis://cache:7000/3", Address(host="cache", port=7000, database=3)),
        ("redis://cache/?db=3", Address(host="cache", database=3)),
        ("rediss://cache", Address(host="cache", tls=True)),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        ("redis://[::1]", Address(host="::1")),
        (f"redis://:{SECRET}@cache", Address(host="cache", password=SECRET)),
        (f"redis://{SECRET}@cache", Address(host="cache", username=SECRET)),
        ("redis://me:a%2Fb%40c%3Ad@cache", Address(host="cache", username="me", password="a/b@c:d")),
        ("unix:///run/redis.sock", Address(unix_path="/run/redis.sock")),
        ("unix://me:pw@/run/my%20redis?db=2", Address("", 6379, "/run/my redis", False, "me", "pw", 2)),
    ],
)
def test_a_url_becomes_an_address(url: str, address: Address) -> None:
    assert parse_address(url) == address


def test_with_sentinels_the_host_is_the_name_of_the_master_as_it_is_written() -> None:
    address = parse_address("rediss://:pw@MyMaster/1", ["one", "two:7001", "[::1]:7002"])
    assert address.service == "MyMaster"
    assert address.sentinels == (("one", 26379), ("two", 7001), ("::1", 7002))
    assert (address.tls, address.password, address.database) == (True, "pw", 1)


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@cache",
        f"{SECRET}",
        "redis://",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@cache:port",
        f"redis://:{SECRET}@cache:0",
        f"redis://:{SECRET}@cache:65536",
        f"redis://:{SECRET}@cache:²",
        f"redis://:{SECRET}@[::1]7000",
        f"redis://:{SECRET}@[::1",
        f"redis://:a/{SECRET}@cache",
        f"redis://:a#{SECRET}@cache",
        f"redis://:a?{SECRET}@cache",
        f"redis://:{SECRET}@cache/database",
        f"redis://:{SECRET}@cache/?db=-1",
        f"redis://:{SECRET}@cache/?ssl=yes",
        f"unix://:{SECRET}@host/run/redis.sock",
        f"unix://:{SECRET}@",
        f"unix://:{SECRET}@/",
    ],
)
def test_a_bad_url_is_refused_without_repeating_any_of_it(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_address(url)
    assert raised.value.path == "redis.url"
    assert SECRET not in repr(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "sentinels", "path"),
    [
        ("redis://master:6379", ["one"], "redis.url"),
        ("redis://", ["one"], "redis.url"),
        ("unix:///run/redis.sock", ["one"], "redis.sentinels"),
        ("redis://master", ["one", ""], "redis.sentinels[1]"),
        ("redis://master", ["one:x"], "redis.sentinels[0]"),
    ],
)
def test_bad_sentinels_are_refused_by_their_place(url: str, sentinels: list[str], path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_address(url, sentinels)
    assert raised.value.path == path


@pytest.mark.parametrize(
    ("url", "sentinels", "text"),
    [
        (f"redis://me:{SECRET}@cache/3", (), "redis://cache:6379"),
        (f"rediss://me:{SECRET}@[::1]:7000", (), "rediss://[::1]:7000"),
        (f"unix://me:{SECRET}@/run/s", (), "unix:///run/s"),
        (f"redis://me:{SECRET}@boss", ("a", "b"), "the master 'boss' of 2 Sentinels"),
    ],
)
def test_what_is_logged_has_no_password(url: str, sentinels: tuple[str, ...], text: str) -> None:
    address = parse_address(url, sentinels)
    assert str(address) == text
    assert address.password == SECRET
    assert SECRET not in repr(address)
