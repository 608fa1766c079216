"""``/admin/keys``: API keys, made, listed, revoked and rotated by admins.

The first key is made on the server's own machine, without one; from then on only an admin's key opens these paths.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange, Header
from genkan.clock import Clock
from genkan.config import ServerConfig
from genkan.config.base import Section
from genkan.errors import (
    AccountsUnavailable,
    InvalidRequest,
    StoreError,
    StoreRefused,
    StoreTimeout,
    UnknownPath,
    WrongMethod,
)
from genkan.gateway.key_issuer import Issued, KeyIssuer
from genkan.gateway.key_records import NewKey, shown, to_json
from genkan.gateway.key_ring import KeyRing
from genkan.wire.strict_json import parse_object

KEYS_PATH = "/admin/keys"
SectionT = TypeVar("SectionT", bound=Section)
_ROTATE = "/rotate"
_PRIVATE: list[Header] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class _Rotation(Section):
    """How a key is rotated."""

    grace_s: float = Field(default=0.0, ge=0, le=365 * 86_400, allow_inf_nan=False)


class AdminKeys:
    """All raise Unauthenticated or Forbidden for who is not an admin, and AccountsUnavailable without Redis."""

    def __init__(self, issuer: KeyIssuer, ring: KeyRing, server: ServerConfig, clock: Clock) -> None:
        self._issuer = issuer
        self._ring = ring
        self._server = server
        self._clock = clock

    async def list_all(self, exchange: Exchange) -> None:
        """``GET /admin/keys``: the records of all keys, or of one ``tenant``, also of keys that have ended."""
        require_admin(exchange)
        tenant = exchange.query_values("tenant").get("tenant")
        with _store_errors():
            keys = await self._issuer.listed(tenant)
        now_s = self._clock.unix()
        await exchange.reply(to_json({"object": "list", "data": [shown(key, now_s) for key in keys]}), headers=_PRIVATE)

    async def create(self, exchange: Exchange) -> None:
        """``POST /admin/keys``: 201 with the key, which is shown this once."""
        require_admin(exchange)
        exchange.query_values()
        wanted = _checked(NewKey, await self._body(exchange))
        with _store_errors():
            issued = await self._issuer.create(wanted)
        await self._tell(exchange, issued)

    async def revoke(self, exchange: Exchange) -> None:
        """``DELETE /admin/keys/{id}``: the key's record; also if it was revoked before."""
        require_admin(exchange)
        exchange.query_values()
        key_id = exchange.path.removeprefix(f"{KEYS_PATH}/")
        if key_id.endswith(_ROTATE):
            raise WrongMethod(exchange.method, exchange.path[:200], ["POST"])
        with _store_errors():
            key = await self._issuer.revoke(key_id)
        exchange.fields["revoked_key"] = key.id
        await self._ring.refresh()
        await exchange.reply(to_json(shown(key, self._clock.unix())), headers=_PRIVATE)

    async def rotate(self, exchange: Exchange) -> None:
        """``POST /admin/keys/{id}/rotate``: 201 with the key that takes its place. The body may be left out."""
        require_admin(exchange)
        exchange.query_values()
        key_id, rotate, rest = exchange.path.removeprefix(f"{KEYS_PATH}/").partition(_ROTATE)
        if not rotate and "/" not in key_id:
            raise WrongMethod(exchange.method, exchange.path[:200], ["DELETE"])
        if not rotate or rest:
            raise UnknownPath(f"Unknown request URL: {exchange.method} {exchange.path[:200]}.")
        rotation = _checked(_Rotation, {} if _has_no_body(exchange) else await self._body(exchange))
        with _store_errors():
            issued = await self._issuer.rotate(key_id, grace_s=rotation.grace_s)
        exchange.fields["rotated_key"] = key_id
        await self._tell(exchange, issued)

    async def _body(self, exchange: Exchange) -> dict[str, Any]:
        server = self._server
        body = await exchange.json_body(limit_bytes=server.max_body_bytes, timeout_s=server.body_timeout_s)
        return parse_object(body)

    async def _tell(self, exchange: Exchange, issued: Issued) -> None:
        exchange.fields["created_key"] = issued.key.id
        await self._ring.refresh()  # so that it works here by the time its owner has it
        content = {"key": issued.text, **shown(issued.key, self._clock.unix())}
        await exchange.reply(to_json(content), status=201, headers=_PRIVATE)


def _checked(section: type[SectionT], body: dict[str, Any]) -> SectionT:
    try:
        return section.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        path = path.removeprefix(".")[:200]
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            problem = "not known here"
        raise InvalidRequest(f"'{path}': {problem[0].lower() + problem[1:]}.", param=path) from None


def _has_no_body(exchange: Exchange) -> bool:
    length = exchange.header(b"content-length") or b"0"
    return length == b"0" and exchange.header(b"transfer-encoding") is None


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except StoreTimeout:
        raise AccountsUnavailable(
            "Redis did not answer in time: whether a key was changed is not known, and a list of the keys shows it."
        ) from None
    except StoreError as error:
        if isinstance(error, StoreRefused) and error.code == "OTHERSECRET":
            raise AccountsUnavailable(
                "The keys in Redis were hashed under another secret than this server's."
            ) from None
        raise AccountsUnavailable("API keys cannot be read or changed at the moment.") from None
