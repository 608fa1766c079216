"""What ``genkan check`` finds, against servers of our own."""

import asyncio
import difflib
import socket
from pathlib import Path
from typing import Any

import pytest
from model_servers import Handler, answering, having, model_server, silent

from genkan.config import Config
from genkan.upstream.check import Finding, check

pytestmark = pytest.mark.anyio

KEY = "sk-9fQ2mZ7cLxV4tB8nR1wK6yH3"
ENVIRON = {"UP_KEY": KEY}


def config(base_url: str, *models: str, **upstream: Any) -> Config:
    settings = {"name": "up", "kind": "openai", "base_url": base_url, "api_key_env": "UP_KEY", **upstream}
    return Config.model_validate(
        {
            "upstreams": [settings],
            "models": [
                {"name": f"m{index}", "deployments": [{"upstream": "up", "model": model}]}
                for index, model in enumerate(models or ("a",))
            ],
        }
    )


async def findings(handler: Handler, *models: str, **upstream: Any) -> list[Finding]:
    async with model_server(handler) as server:
        return await check(config(server.base_url, *models, **upstream), ENVIRON)


async def test_an_upstream_that_has_the_models_and_takes_the_key_is_ok() -> None:
    found = await findings(having("a", "models/b", "c", key=KEY), "a", "b")
    assert found == [Finding("up", "ok", "3 models there; key accepted")]


async def test_a_list_that_is_open_to_anyone_does_not_test_the_key() -> None:
    [found] = await findings(having("a"), "a")
    assert (found.level, found.message) == ("ok", "1 model there; they are listed to anyone, so the key is not tested")


async def test_no_key_is_sent_where_none_is_configured() -> None:
    async with model_server(having("a")) as server:
        found = await check(config(server.base_url, "a", api_key_env=None), ENVIRON)
        assert len(server.requests) == 1
        assert "authorization" not in server.requests[0].lower()
    assert found == [Finding("up", "ok", "1 model there; no key sent")]


async def test_an_unknown_model_is_named_with_those_that_are_there_nearest_first() -> None:
    there = ["zzz", "gpt-4.1-mini", "gpt-4.1", *(f"other-{number}" for number in range(30))]
    one, two = await findings(having(*there, key=KEY), "gpt4.1", "gpt-4.1", "0therr")
    assert (one.level, two.level) == ("error", "error")
    assert one.message.startswith("it has no model 'gpt4.1'; there: gpt-4.1, gpt-4.1-mini, ")
    assert one.message.endswith(", and 13 more")
    assert two.message.startswith("it has no model '0therr'; there: other-")


async def test_near_names_are_looked_for_among_five_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    nearest = difflib.get_close_matches

    def counted(word: str, names: list[str], **how: Any) -> list[str]:
        compared.append(len(names))
        return nearest(word, names, **how)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    [found] = await findings(having(*(f"m-{number}" for number in range(3000)), key=KEY), "m")
    assert compared == [500]
    assert found.message.endswith(", and 2980 more")


async def test_a_short_list_of_models_is_shown_whole() -> None:
    [found] = await findings(having("b", "a", key=KEY), "x")
    assert sorted(found.message.removeprefix("it has no model 'x'; there: ").split(", ")) == ["a", "b"]


async def test_a_server_without_models_has_none() -> None:
    [found] = await findings(having(key=KEY), "x")
    assert found == Finding("up", "error", "it has no model 'x'; there: none")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("401 Unauthorized", "the key is refused with status 401: UP_KEY holds no key that is valid there"),
        ("403 Forbidden", "the key is refused with status 403: UP_KEY holds no key that is valid there"),
    ],
)
async def test_a_refused_key_names_its_variable(status: str, says: str) -> None:
    assert await findings(answering(KEY.encode(), status)) == [Finding("up", "error", says)]


async def test_a_server_that_asks_for_a_key_where_none_is_configured() -> None:
    [found] = await findings(having("a", key=KEY), "a", api_key_env=None)
    assert found.level == "error"
    assert "it asks for a key" in found.message
    assert "api_key_env" in found.message


async def test_no_list_is_a_warning_that_names_the_usual_cause() -> None:
    [found] = await findings(answering(b"", "404 Not Found"))
    assert found.level == "warning"
    assert "GET /models is not there" in found.message
    assert "/v1" in found.message


@pytest.mark.parametrize(("body", "status", "says"), [(b"", "500 Oops", "status 500"), (b"<html>", "200 OK", "a list")])
async def test_what_answers_otherwise_is_an_error(body: bytes, status: str, says: str) -> None:
    [found] = await findings(answering(body, status))
    assert found.level == "error"
    assert says in found.message


async def test_an_upstream_that_cannot_be_reached_is_named_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    [found] = await check(config(base_url), ENVIRON)
    assert found.level == "error"
    assert found.message.startswith(f"{base_url} is unreachable: 127.0.0.1:")


async def test_silence_ends_with_the_upstreams_own_limit() -> None:
    [found] = await findings(silent(), health={"timeout_s": 0.05})
    assert found.level == "error"
    assert found.message.endswith("is unreachable: no answer from GET /models within 0.05 s")


async def test_a_key_that_cannot_work_is_not_sent() -> None:
    async with model_server(having("a")) as server:
        found = await check(config(server.base_url), {"UP_KEY": f"{KEY}\n"})
        assert server.requests == []
    assert found == [Finding("up", "error", "UP_KEY ends with a line break")]


async def test_a_warning_comes_before_what_was_found() -> None:
    async with model_server(having("a", key="hunter2")) as server:
        found = await check(config(server.base_url), {"UP_KEY": "hunter2"})
    assert [(one.level, one.upstream) for one in found] == [("warning", "up"), ("ok", "up")]
    assert not any("hunter2" in one.message for one in found)


@pytest.mark.parametrize(
    ("environ", "level", "says"),
    [
        (ENVIRON, "ok", "UP_KEY can be a key; not asked, as it is offline"),
        ({"UP_KEY": "${UP_KEY}"}, "error", "UP_KEY holds a placeholder, not a key"),
    ],
)
async def test_offline_nobody_is_asked(environ: dict[str, str], level: str, says: str) -> None:
    async with model_server(having("a")) as server:
        [found] = await check(config(server.base_url), environ, offline=True)
        assert server.requests == []
    assert (found.level, found.message) == (level, says)


async def test_a_key_that_is_not_set_is_an_error_only_where_nobody_else_serves() -> None:
    both = [{"upstream": "up"}, {"upstream": "other"}]
    settings = {
        "upstreams": [
            {"name": "up", "kind": "openai", "base_url": "https://up.example/v1", "api_key_env": "UP_KEY"},
            {"name": "other", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"},
        ],
        "models": [{"name": "a", "deployments": both}, {"name": "b", "upstream": "up"}],
        "routes": [{"alias": "r", "chain": ["a"]}, {"alias": "s", "chain": ["b"]}],
    }
    found = await check(Config.model_validate(settings), {}, offline=True)
    assert [(one.level, one.upstream) for one in found] == [("warning", "up"), ("ok", "other"), ("error", "s")]
    assert found[0].message == "UP_KEY is not set; its deployments are passed over"


async def test_all_are_asked_at_once_and_told_in_the_configurations_order() -> None:
    both = asyncio.Barrier(2)

    async def handle(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await both.wait()  # nobody is answered until both are asked
        await having("a")(request, reader, writer)

    async with model_server(handle) as one, model_server(handle) as two:
        settings = {
            "upstreams": [
                {"name": "one", "kind": "openai", "base_url": one.base_url},
                {"name": "spare", "kind": "openai", "base_url": two.base_url},
                {"name": "two", "kind": "openai", "base_url": two.base_url},
                {"name": "engine", "kind": "engine"},
            ],
            "models": [
                {"name": "a", "deployments": [{"upstream": "two"}, {"upstream": "one"}]},
                {"name": "own", "upstream": "engine"},
            ],
            "engine": {"model": "nowhere/gone.gguf"},
        }
        found = await check(Config.model_validate(settings), {})
        assert (len(one.requests), len(two.requests)) == (1, 1)
    assert [(finding.upstream, finding.level) for finding in found] == [
        ("one", "ok"),
        ("spare", "warning"),
        ("two", "ok"),
        ("engine", "error"),
    ]
    assert found[1].message == "no model uses it, so it was not checked"
    assert "nowhere/gone.gguf" in found[3].message


async def test_the_engine_is_looked_up_and_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"")
    settings = {
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [
            {"name": "own", "upstream": "engine"},
            {"name": "other", "upstream": "engine", "engine": {"model": "gone.gguf"}},
        ],
        "engine": {"model": str(file)},
    }
    found = await check(Config.model_validate(settings), {})
    assert found[0] == Finding("engine", "ok", "embedded, the file of own is there")
    assert (found[1].level, found[1].message) == (
        "error",
        "other: there is no model file gone.gguf (engine.model: gone.gguf)",
    )


async def test_the_embedders_model_is_looked_for_where_it_is(tmp_path: Path) -> None:
    async with model_server(having("a", "vectors", key=KEY)) as server:
        settings = config(server.base_url, "a").model_dump(exclude_unset=True)

        async def about(model: str) -> list[Finding]:
            return await check(Config.model_validate({**settings, "embedder": {"model": model}}), ENVIRON)

        accepted = Finding("up", "ok", "2 models there; key accepted")
        missing = tmp_path / "none.bin"
        upstream, embedder = await about(str(missing))
        assert (upstream, embedder.upstream, embedder.level) == (accepted, "embedder", "error")
        assert str(missing) in embedder.message
        missing.write_bytes(b"E5S1")
        assert await about(str(missing)) == [accepted, Finding("embedder", "ok", "model file found")]
        assert await about("upstream:up/vectors") == [accepted]
        [unknown] = await about("upstream:up/vectrs")
        assert unknown.level == "error"
        assert "vectors" in unknown.message


async def test_a_server_that_genkan_starts_itself_need_not_run_yet() -> None:
    with socket.socket() as nobody:  # holds the port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        serve = {"model": "org/a", "port": nobody.getsockname()[1]}
        checked = config("", kind="vllm", serve=serve, api_key_env=None)
        [found] = await check(checked, {})
    assert (found.level, found.message) == ("warning", "not running; genkan starts it, and it takes minutes")
