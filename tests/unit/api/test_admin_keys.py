"""``/admin/keys``: what admins can do, what it answers, and what it refuses."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from asgi import JSON_HEADERS, AsgiClient
from scripted_upstreams import VirtualClock

from genkan.api.admin_keys import KEYS_PATH, AdminKeys
from genkan.api.auth import Doorkeeper
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.errors import StoreError, StoreLost, StoreRefused, StoreTimeout
from genkan.gateway.key_issuer import KeyIssuer
from genkan.gateway.key_records import NewKey
from genkan.gateway.key_ring import KeyRing
from genkan.store.keys import Edit, KeyTable, MemoryKeyStore

pytestmark = pytest.mark.anyio
SECRET = b"s" * 32
ID = "key_0123456789abcdef"


class FailingStore(MemoryKeyStore):
    """Fails with ``error`` once there is one."""

    error: StoreError | None = None

    async def table(self) -> KeyTable:
        self._check()
        return await super().table()

    async def edit(self, edits: Sequence[Edit], fingerprint: str) -> bool:
        self._check()
        return await super().edit(edits, fingerprint)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = FailingStore()
        self.issuer = KeyIssuer(self.store, SECRET, self.clock)
        self.ring = KeyRing(self.store, SECRET, self.clock, trust_s=300)
        server = ServerConfig(open_to="any")
        keys = AdminKeys(self.issuer, self.ring, server, self.clock)
        table = {
            KEYS_PATH: {"GET": keys.list_all, "POST": keys.create},
            f"{KEYS_PATH}/*": {"DELETE": keys.revoke, "POST": keys.rotate},
        }
        self.app = Api(table, Doorkeeper(server, self.ring, clock=self.clock).admit, [])
        self.admin = ""

    async def ask(
        self, method: str, path: str, body: object = b"", *, key: str | None = None, peer: str = "192.0.2.7"
    ) -> AsgiClient:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        text = self.admin if key is None else key
        headers = [*JSON_HEADERS, (b"authorization", b"Bearer " + text.encode()), (b"host", b"localhost")]
        headers += [(b"content-length", b"%d" % len(content))]
        return await AsgiClient(self.app, peer=peer).request(method, path, [content], headers)

    async def create(self, **wanted: Any) -> dict[str, Any]:
        client = await self.ask("POST", KEYS_PATH, {"tenant": "acme", **wanted})
        assert client.status == 201, client.body
        return dict(json.loads(client.body))

    async def listed(self, query: str = "") -> list[dict[str, Any]]:
        client = await self.ask("GET", KEYS_PATH + query)
        assert (client.status, client.headers["cache-control"]) == (200, "no-store")
        content = json.loads(client.body)
        assert content["object"] == "list"
        return list(content["data"])


@pytest.fixture
async def rig() -> Rig:
    rig = Rig()
    rig.admin = (await rig.issuer.create(NewKey(tenant="ops", role="admin"))).text
    await rig.ring.refresh()
    return rig


async def test_the_first_key_is_made_from_this_machine_and_from_then_on_it_takes_one() -> None:
    rig = Rig()
    await rig.ring.refresh()
    body = {"tenant": "ops", "role": "admin"}
    assert (await rig.ask("POST", KEYS_PATH, body, peer="192.0.2.7")).status == 401
    client = await rig.ask("POST", KEYS_PATH, body, peer="127.0.0.1")
    assert client.status == 201
    assert (await rig.ask("POST", KEYS_PATH, body, peer="127.0.0.1")).status == 401
    rig.admin = json.loads(client.body)["key"]
    assert len(await rig.listed()) == 1


async def test_a_key_is_shown_once_and_works_at_once(rig: Rig) -> None:
    client = await rig.ask("POST", KEYS_PATH, {"tenant": "acme"})
    made = json.loads(client.body)
    assert client.status == 201
    assert client.headers["cache-control"] == "no-store"
    assert rig.ring.find(made["key"].encode()) is not None
    listed = await rig.ask("GET", KEYS_PATH)
    assert made["id"].encode() in listed.body
    assert made["key"][-8:].encode() not in listed.body
    assert not any(digest.encode() in listed.body for digest in (await rig.store.table()).records)


async def test_a_key_is_as_it_was_asked_to_be(rig: Rig) -> None:
    wanted = {
        "name": "ci", "role": "user", "models": ["m"],
        "limits": {"requests": {"limit": 5, "window_s": 1.5, "algorithm": "sliding_window"}, "concurrent": 2},
        "budgets": [{"per": "month", "usd": 0.42, "tokens": 7, "warn_at": 0.5}],
    }  # fmt: skip
    made = await rig.create(**wanted, expires_in_s=60)
    assert {name: made[name] for name in wanted} == wanted
    assert (made["tenant"], made["state"], made["hint"]) == ("acme", "active", f"…{made['key'][-4:]}")
    assert made["expires_at"] == made["created_at"] + 60
    del made["key"]
    assert await rig.listed("?tenant=acme") == [made]


async def test_lists_one_tenants_keys(rig: Rig) -> None:
    made = await rig.create()
    assert [key["id"] for key in await rig.listed("?tenant=acme")] == [made["id"]]
    assert len(await rig.listed()) == 2
    assert (await rig.ask("GET", f"{KEYS_PATH}?name=x")).status == 400


async def test_a_revoked_key_ends_at_once_here_and_stays_listed(rig: Rig) -> None:
    made = await rig.create()
    for _ in range(2):
        client = await rig.ask("DELETE", f"{KEYS_PATH}/{made['id']}")
        assert (client.status, json.loads(client.body)["state"]) == (200, "revoked")
    assert rig.ring.find(made["key"].encode()) is None
    assert [key["state"] for key in await rig.listed("?tenant=acme")] == ["revoked"]


async def test_rotating_gives_a_new_key_and_ends_the_old_one_now_or_later(rig: Rig) -> None:
    first = await rig.create(models=["m"])
    client = await rig.ask("POST", f"{KEYS_PATH}/{first['id']}/rotate")
    second = json.loads(client.body)
    assert (client.status, second["models"], second["id"] != first["id"]) == (201, ["m"], True)
    client = await rig.ask("POST", f"{KEYS_PATH}/{second['id']}/rotate", {"grace_s": 60})
    third = json.loads(client.body)
    found = [rig.ring.find(key["key"].encode()) is not None for key in (first, second, third)]
    assert found == [False, True, True]
    rig.clock.now_s += 60
    assert rig.ring.find(second["key"].encode()) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tenant"),
        ({"tenant": 5}, "tenant"),
        ({"tenant": "no blanks"}, "tenant"),
        ({"tenant": "t", "role": "root"}, "role"),
        ({"tenant": "t", "rôle": "admin"}, "rôle"),
        ({"tenant": "t", "id": ID}, "id"),
        ({"tenant": "t", "expires_in_s": "60"}, "expires_in_s"),
        ({"tenant": "t", "expires_in_s": -1}, "expires_in_s"),
        ({"tenant": "t", "expires_in_s": 60, "expires_at": 2e9}, "expires_at"),
        ({"tenant": "t", "expires_at": 5}, "expires_at"),
        ({"tenant": "t", "models": "m"}, "models"),
        ({"tenant": "t", "models": ["m", "*"]}, "models[1]"),
        ({"tenant": "t", "limits": {"requests": {"limit": 0}}}, "limits.requests.limit"),
        ({"tenant": "t", "limits": {"requests": {"limit": True}}}, "limits.requests.limit"),
        ({"tenant": "t", "budgets": [{"per": "year", "usd": 1}]}, "budgets[0].per"),
        ({"tenant": "t", "budgets": [{"per": "day", "usd": -1}]}, "budgets[0].usd"),
    ],
    ids=str,
)
async def test_a_wrong_body_is_a_400_that_names_the_field(rig: Rig, body: dict[str, Any], param: str) -> None:
    client = await rig.ask("POST", KEYS_PATH, body)
    assert (client.status, client.error["param"]) == (400, param)
    assert f"'{param}'" in client.error["message"]
    assert len(await rig.listed()) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"tenant":"t","tenant":"u"}', b'{"tenant":"\\ud800"}', b'{"tenant":"t"'], ids=str
)
async def test_a_body_that_is_no_strict_json_object_is_a_400(rig: Rig, body: bytes) -> None:
    assert (await rig.ask("POST", KEYS_PATH, body)).status == 400


@pytest.mark.parametrize("body", [{"grace_s": -1}, {"grace": 5}, {"grace_s": "5"}, {"grace_s": 1e300}], ids=str)
async def test_a_wrong_grace_changes_nothing(rig: Rig, body: dict[str, Any]) -> None:
    made = await rig.create()
    assert (await rig.ask("POST", f"{KEYS_PATH}/{made['id']}/rotate", body)).status == 400
    assert len(await rig.listed()) == 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", f"/{ID}", 404),
        ("DELETE", "/*", 404),
        ("DELETE", f"/{ID}/rotate", 405),
        ("POST", f"/{ID}/rotate", 404),
        ("POST", f"/{ID}", 405),
        ("POST", f"/{ID}/rotate/x", 404),
        ("POST", f"/{ID}/revoke", 404),
        ("GET", f"/{ID}", 405),
        ("PUT", "", 405),
    ],
)
async def test_what_is_not_there(rig: Rig, method: str, path: str, status: int) -> None:
    assert (await rig.ask(method, KEYS_PATH + path)).status == status


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", f"/{ID}"), ("POST", f"/{ID}/rotate"), ("DELETE", "/*")]
)
async def test_only_admins_get_anywhere(rig: Rig, method: str, path: str) -> None:
    user = (await rig.create())["key"]
    assert (await rig.ask(method, KEYS_PATH + path, {"tenant": "t"}, key=user, peer="127.0.0.1")).status == 403
    assert (await rig.ask(method, KEYS_PATH + path, {"tenant": "t"}, key="", peer="127.0.0.1")).status == 401
    assert len(await rig.listed()) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StoreLost("at 10.0.0.1"), "cannot be read or changed"),
        (StoreTimeout("late"), "is not known"),
        (StoreRefused("OTHERSECRET x"), "another secret"),
        (StoreRefused("OOM command not allowed"), "cannot be read or changed"),
    ],
    ids=str,
)
async def test_without_redis_nothing_is_changed_and_it_is_said(rig: Rig, error: StoreError, says: str) -> None:
    made = await rig.create()
    rig.store.error = error
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", f"/{made['id']}"), ("POST", f"/{made['id']}/rotate")):
        client = await rig.ask(method, KEYS_PATH + path, {"tenant": "t"} if not path else {})
        assert (client.status, client.error["code"]) == (503, "accounts_unavailable")
        assert says in client.error["message"]
        assert str(error) not in client.error["message"]
