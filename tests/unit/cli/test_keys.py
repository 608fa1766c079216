"""``genkan keys``, on an embedded Redis that lives as long as each command, and on one of somebody else's."""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from redis import Redis
from redis_servers import RunningRedis, running_redis

from genkan.cli.keys import keys
from genkan.gateway.key_format import digest, looks_right

Genkan = Callable[..., Result]
SECRET = "correct horse battery staple, and more"


@pytest.fixture
def redis(tmp_path: Path) -> Generator[RunningRedis, None, None]:
    with running_redis("embedded", tmp_path) as redis:
        yield redis


def written(folder: Path, **redis: Any) -> str:
    settings = {
        "upstreams": [{"name": "e", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "e"}],
        "redis": {"data_dir": str(folder / "data"), **redis},
    }
    path = folder / "genkan.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


@pytest.fixture
def genkan(redis: RunningRedis, tmp_path: Path) -> Genkan:
    path = written(tmp_path, url=redis.url)

    def invoke(*arguments: str, **environ: str | None) -> Result:
        return CliRunner().invoke(keys, [*arguments, "--config", path], env={"GENKAN_KEY_SECRET": SECRET, **environ})

    return invoke


def listed(genkan: Genkan, *options: str) -> list[dict[str, Any]]:
    result = genkan("list", "--json", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    return list(json.loads(result.stdout))


def test_create_prints_the_key_alone_so_that_a_variable_can_hold_it(genkan: Genkan) -> None:
    result = genkan("create", "--tenant", "acme")
    key = result.stdout.rstrip("\n")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert looks_right(key.encode())
    assert "acme" in result.stderr
    assert key[-8:] not in result.stderr
    record = listed(genkan)[0]
    assert (record["tenant"], record["role"], record["state"]) == ("acme", "user", "active")
    assert record["id"] in result.stderr
    assert key[-8:] not in genkan("list").stdout


def test_create_takes_everything_that_a_key_can_be(genkan: Genkan) -> None:
    result = genkan(
        "create", "--tenant", "acme", "--name", "Zoë", "--role", "admin", "--expires-in", "1.5h", "--model", "a",
        "--model", "b", "--limits", '{"requests": {"limit": 60}, "concurrent": 2}', "--budget",
        '{"per": "month", "usd": 0.42}', "--budget", '{"per": "day", "tokens": 5}', "--json",
    )  # fmt: skip
    made = json.loads(result.stdout)
    assert looks_right(made.pop("key").encode())
    assert listed(genkan) == [made]
    assert (made["name"], made["role"], made["models"]) == ("Zoë", "admin", ["a", "b"])
    assert made["expires_at"] == pytest.approx(made["created_at"] + 5400)
    assert (made["limits"]["requests"]["limit"], made["limits"]["concurrent"]) == (60, 2)
    assert [(budget["per"], budget.get("usd"), budget.get("tokens")) for budget in made["budgets"]] == [
        ("month", 0.42, None),
        ("day", None, 5),
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tenant", "no blanks"], "tenant"),
        (["--tenant", "t", "--role", "root"], "root"),
        (["--tenant", "t", "--expires-in", "soon"], "no duration"),
        (["--tenant", "t", "--expires-in", "-5s"], "no duration"),
        (["--tenant", "t", "--limits", "60"], "must be a JSON object"),
        (["--tenant", "t", "--limits", "{"], "not JSON"),
        (["--tenant", "t", "--limits", '{"requests": {"limit": 0}}'], "limits.requests.limit"),
        (["--tenant", "t", "--budget", '{"per": "year", "usd": 1}'], "budgets.0.per"),
        ([], "--tenant"),
    ],
    ids=str,
)
def test_a_wrong_option_is_a_usage_error_that_names_it(genkan: Genkan, options: list[str], says: str) -> None:
    result = genkan("create", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_list_is_a_table_for_people(genkan: Genkan) -> None:
    genkan("create", "--tenant", "a", "--name", "first")
    genkan("create", "--tenant", "b", "--role", "admin", "--expires-in", "0.000001s")
    lines = genkan("list").stdout.splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["TENANT", "ROLE", "STATE"],
        ["a", "user", "active"],
        ["b", "admin", "expired"],
    ]
    assert lines[1].split()[5:] == ["never", "first"]
    assert [record["tenant"] for record in listed(genkan, "--tenant", "b")] == ["b"]


def test_revoke_ends_a_key(genkan: Genkan) -> None:
    genkan("create", "--tenant", "acme")
    key_id = listed(genkan)[0]["id"]
    result = genkan("revoke", key_id)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{key_id} of acme is revoked\n")
    assert listed(genkan)[0]["state"] == "revoked"
    assert json.loads(genkan("revoke", key_id, "--json").stdout) == listed(genkan)[0]


def test_rotate_prints_the_new_key_alone(genkan: Genkan) -> None:
    old = genkan("create", "--tenant", "acme").stdout
    key_id = listed(genkan)[0]["id"]
    result = genkan("rotate", key_id, "--grace", "1d")
    assert looks_right(result.stdout.rstrip("\n").encode())
    assert result.stdout != old
    first, second = listed(genkan)
    assert (first["state"], second["state"]) == ("active", "active")
    assert first["expires_at"] == pytest.approx(second["created_at"] + 86_400)


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_id_is_an_error(genkan: Genkan, command: str) -> None:
    result = genkan(command, "key_0000000000000000")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: There is no API key with the id 'key_0000000000000000'.\n"


def test_keys_of_another_secret_are_left_alone(genkan: Genkan) -> None:
    genkan("create", "--tenant", "acme")
    result = genkan("create", "--tenant", "acme", GENKAN_KEY_SECRET="x" * 40)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "another secret" in result.stderr
    assert len(listed(genkan)) == 1


def test_a_redis_that_is_not_there_is_one_line(genkan: Genkan, redis: RunningRedis) -> None:
    redis.kill()
    result = genkan("list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: Redis cannot be reached\n" in result.stderr


@pytest.mark.parametrize("where", [{"url": "memory"}, {"url_env": "OUR_REDIS"}])
def test_a_redis_that_cannot_be_used_is_an_error_without_its_password(tmp_path: Path, where: dict[str, str]) -> None:
    path = written(tmp_path, **where)
    environ = {"GENKAN_KEY_SECRET": SECRET, "OUR_REDIS": "redis://user:hunter22@127.0.0.1:1/0"}
    result = CliRunner().invoke(keys, ["list", "--config", path], env=environ)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: " in result.stderr
    assert "hunter22" not in result.output


def test_without_a_server_the_embedded_redis_keeps_what_one_command_made_for_the_next(tmp_path: Path) -> None:
    path = written(tmp_path)
    made = CliRunner().invoke(keys, ["create", "--tenant", "acme", "--json", "--config", path])
    assert made.exit_code == 0, made.output
    found = CliRunner().invoke(keys, ["list", "--json", "--config", path])
    content = json.loads(made.stdout)
    secret = (tmp_path / "data" / "keys.secret").read_bytes()
    key = content.pop("key")
    assert json.loads(found.stdout) == [content]
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert digest(secret, key.encode()).encode() in kept
    assert key[-8:].encode() not in kept


def test_a_record_that_ends_after_the_last_year_there_is_hides_no_other(redis: RunningRedis, genkan: Genkan) -> None:
    assert genkan("create", "--tenant", "acme", "--expires-in", "30d").exit_code == 0
    with Redis(unix_socket_path=str(redis.socket)) as client:
        (record,) = client.hvals("genkan:keys")
        content = json.loads(record)
        for number, late in enumerate((1_795_271_356_162.0, 1e300)):
            client.hset("genkan:keys", f"{number}" * 64, json.dumps({**content, "expires_s": late}))
    result = genkan("list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (result.stdout.count("acme"), result.stdout.count("after 9999")) == (3, 2)
