"""One server for all end-to-end tests that do not break it, and its clients."""

from collections.abc import Generator
from pathlib import Path

import httpx
import openai
import pytest
from e2e.built_bento import build_bento
from e2e.fault_gateway import FaultGateway, running_fault_gateway
from e2e.live_server import LiveServer, running_server
from e2e.watched_gateway import Watched, running_watched_gateway


@pytest.fixture(scope="session")
def server() -> Generator[LiveServer, None, None]:
    """A ready server with the default configuration."""
    with running_server() as server:
        yield server


@pytest.fixture
def sdk(server: LiveServer) -> Generator[openai.OpenAI, None, None]:
    """OpenAI's client, as its users have it."""
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def http(server: LiveServer) -> Generator[httpx.Client, None, None]:
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def fault_gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[FaultGateway, None, None]:
    """A ready gateway without an engine, in front of two fault upstreams."""
    with running_fault_gateway(tmp_path_factory.mktemp("fault_gateway")) as gateway:
        yield gateway


@pytest.fixture
def faulty(fault_gateway: FaultGateway) -> Generator[FaultGateway, None, None]:
    """The same, its upstreams as they were at first; afterwards nothing is under way there."""
    fault_gateway.forget()
    yield fault_gateway
    fault_gateway.wait_idle()


@pytest.fixture(scope="session")
def bento_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME with a Bento of this tree and its models; the tree that it was built from is gone."""
    home = tmp_path_factory.mktemp("home")
    build_bento(home, tmp_path_factory.mktemp("tree"))
    return home


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Generator[Watched, None, None]:
    """A ready gateway with two workers and keys, whose log and traces are watched."""
    with running_watched_gateway(tmp_path_factory.mktemp("watched")) as watched:
        yield watched
