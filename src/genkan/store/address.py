"""Where a Redis is, and as whom to enter: what its URL says. Pure.

``redis://[user[:password]@]host[:port][/database]``, the same with ``rediss`` for TLS, and
``unix://[user[:password]@]/path/to/socket[?db=database]``. With Sentinels the host is the name of the master.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from genkan.errors import ConfigError

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Address:
    """One Redis. ``str`` and ``repr`` of it can go to a log: neither has the password."""

    host: str = ""
    port: int = DEFAULT_PORT
    unix_path: str = ""  # goes before host and port
    tls: bool = False  # of the Sentinels too
    username: str = ""
    password: str = field(default="", repr=False)  # of Redis; Sentinels are asked without
    database: int = 0
    sentinels: tuple[tuple[str, int], ...] = ()  # go before host and port: ask one of them where the master is
    service: str = ""  # the master's name there

    @property
    def has_login(self) -> bool:
        """Whether Redis is to be told who we are."""
        return bool(self.username or self.password)

    @property
    def place(self) -> str:
        """What tells its data from those of other Redises, whoever enters, and however."""
        server = self.unix_path or f"{self.host.lower()}:{self.port}"
        if self.sentinels:
            server = ",".join([self.service, *sorted(f"{host}:{port}" for host, port in self.sentinels)])
        return f"{server}/{self.database}"

    def __str__(self) -> str:
        if self.sentinels:
            return f"the master '{self.service}' of {len(self.sentinels)} Sentinels"
        if self.unix_path:
            return f"unix://{self.unix_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}"


def parse_address(url: str, sentinels: Sequence[str] = ()) -> Address:
    """The Redis that ``url`` names, found by way of ``sentinels`` (``host:port``) if there are any.

    Raises ConfigError, which repeats nothing of the URL: what stands in the wrong place there may be the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong("is not a URL") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _wrong("must begin with redis://, rediss:// or unix://")
    if parts.fragment:
        raise _wrong("has a '#'; in a password it is written %23")
    login, _, place = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    user, secret = unquote(username), unquote(password)
    if parts.scheme == "unix":
        if sentinels:
            raise ConfigError("redis.sentinels", "go with redis:// or rediss://, not with a Unix socket")
        if place or len(parts.path) < 2:
            raise _wrong("must name the socket by an absolute path, as unix:///run/redis.sock does")
        database = _database(parts.query, "")
        return Address(unix_path=unquote(parts.path), username=user, password=secret, database=database)
    database = _database(parts.query, parts.path[1:])
    tls = parts.scheme == "rediss"
    if sentinels:
        if not place or ":" in place:
            raise _wrong("must have the master's name, without a port, in the place of the host")
        asked = tuple(_sentinel(text, f"redis.sentinels[{number}]") for number, text in enumerate(sentinels))
        return Address(
            tls=tls, username=user, password=secret, database=database, sentinels=asked, service=unquote(place)
        )
    host, port = _place(place, DEFAULT_PORT, "redis.url")
    return Address(host=host, port=port, tls=tls, username=user, password=secret, database=database)


def _wrong(problem: str) -> ConfigError:
    return ConfigError("redis.url", problem)


def _sentinel(text: str, path: str) -> tuple[str, int]:
    return _place(text, DEFAULT_SENTINEL_PORT, path)


def _place(text: str, default_port: int, path: str) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port`` or ``[address]:port``."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise ConfigError(path, "has something between the address and its port")
        digits = rest[1:]
    else:
        host, _, digits = text.partition(":")
    if not host:
        raise ConfigError(path, "has no host")
    if not digits:
        return host, default_port
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:6]) < 65536):
        raise ConfigError(path, "its port must be a number from 1 to 65535; a '/' in a password is written %2F")
    return host, int(digits)


def _database(query: str, path: str) -> int:
    options = parse_qs(query, keep_blank_values=True)
    if options.keys() - {"db"}:
        raise _wrong("may have no option but db; a '?' in a password is written %3F")
    digits = options["db"][-1] if "db" in options else path or "0"
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 6):
        raise _wrong("its database must be a number; a '/' in a password is written %2F")
    return int(digits)
