"""Where the load goes: a URL as people write it, and the bytes of a request to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CHAT_PATH = "/chat/completions"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A server, the path that is asked, and the path of its list of models. ``key`` is never shown."""

    scheme: str
    host: str
    port: int
    path: str
    models_path: str
    key: str | None = None

    def __repr__(self) -> str:
        return f"Target({self.url})"

    @property
    def authority(self) -> str:
        """Host and port, as the host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The server alone."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """What is asked; without a key."""
        return self.origin + self.path

    def post(self, body: bytes) -> bytes:
        """A request with that JSON body."""
        more = {"content-type": "application/json", "content-length": str(len(body))}
        return self._head(f"POST {self.path}", more) + body

    def get_models(self) -> bytes:
        """A request for the list of models."""
        return self._head(f"GET {self.models_path}", {})

    def _head(self, start: str, more: Mapping[str, str]) -> bytes:
        headers = {"host": self.authority, "accept": "*/*", "user-agent": "genkan-bench", **more}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{start} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def parse_target(url: str, path: str | None = None, key: str | None = None) -> Target:
    """The target that ``url`` means: with or without ``/v1``, with or without a scheme (then http).

    ``path``, when given, is asked instead of the chat completions. Raises ValueError that says what is wrong.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in _PORTS:
        raise ValueError(f"the URL must begin with http:// or https://; given: {url}")
    if not parts.hostname:
        raise ValueError(f"there is no host in the URL: {url}")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("the URL must have no user, no query and no fragment")
    if path is not None and not path.startswith("/"):
        raise ValueError(f"the path must begin with /; given: {path}")
    if " " in (sent := parts.netloc + parts.path + (path or "")) or not _is_printable_ascii(sent):
        raise ValueError("the URL and the path must be ASCII without spaces: escape what is not")
    if key and not _is_printable_ascii(key):
        raise ValueError("the API key must be printable ASCII")
    port = parts.port  # raises ValueError for what is no port
    before = parts.path.rstrip("/").removesuffix("/v1")
    return Target(
        parts.scheme,
        parts.hostname,
        port or _PORTS[parts.scheme],
        before + (path or f"/v1{CHAT_PATH}"),
        f"{before}/v1/models",
        key or None,
    )


def _is_printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()
