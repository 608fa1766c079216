"""The inputs of a fuzz campaign: each is a function of the campaign's seed and its own number, and of nothing else.

Most are requests that once were right, with one to three things changed: fields of the body, bytes of it, headers, the
path, or the bytes on the wire. So they get as far as the place that the change breaks, and not only to the parser.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fuzz.bodies import GOOD, mutated_body, mutated_bytes
from fuzz.wire import mutated_request, odd_header, odd_path

Kind = Literal["fields", "bytes", "headers", "paths", "wire"]
#: How often each kind comes, of 100.
SHARES: Final[dict[Kind, int]] = {"fields": 62, "bytes": 14, "headers": 8, "paths": 8, "wire": 8}
KEYLESS: Final = 0.02
_ADMIN_CREATES: Final = "/admin/keys"


@dataclass(slots=True)
class Input:
    """One input. ``raw``: what is on the wire; a server may wait for the rest of it, or drop it.

    Else it is a whole HTTP request, which gets an answer whatever it says.
    """

    number: int
    kind: Kind
    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes | None = None

    def on_wire(self, key: str) -> bytes:
        """As it is sent, with ``key`` where the fuzzer left the credential to us."""
        if self.raw is not None:
            return self.raw.replace(b"$KEY", key.encode())
        lines = [f"{self.method} {self.path} HTTP/1.1\r\n".encode("utf-8", "surrogatepass"), b"host: localhost\r\n"]
        lines += [name + b": " + value.replace(b"$KEY", key.encode()) + b"\r\n" for name, value in self.headers]
        return b"".join([*lines, b"content-length: %d\r\n\r\n" % len(self.body), self.body])

    @property
    def shown(self) -> str:
        """Enough of it to know it again."""
        if self.raw is not None:
            return f"#{self.number} {self.kind} {self.raw[:300]!r}"
        return f"#{self.number} {self.kind} {self.method} {self.path[:80]} {self.headers!r:.200} {self.body[:300]!r}"


def make_input(seed: int, number: int, *, tame: bool = False) -> Input:
    """The input of that number. ``tame`` ones ask a real model for a few tokens at most, and hold a small prompt."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
    path = rng.choice(list(GOOD))
    made = Input(number, kind, path=path, headers=_headers(rng))
    body = rng.choice(GOOD[path])
    if kind == "fields":
        made.body = mutated_body(rng, body, tame=tame)
    elif kind == "bytes":
        made.body = mutated_bytes(rng, _dumped(body))
    else:
        made.body = _dumped(body)
        if kind == "headers":
            made.headers = odd_header(rng, made.headers)
        elif kind == "paths":
            made.method, made.path = odd_path(rng)
            made.body = b"" if made.method in ("GET", "HEAD") else made.body
        else:
            made.raw = mutated_request(rng, made.path, made.headers, made.body)
    return made


def _headers(rng: random.Random) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json")]
    if rng.random() >= KEYLESS:
        headers.append((b"authorization", b"Bearer $KEY"))
    return headers


def _dumped(body: Any) -> bytes:
    return json.dumps(body).encode()
