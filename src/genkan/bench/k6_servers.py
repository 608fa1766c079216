"""What each of k6's scenarios runs against, and what k6 has to know of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from genkan.bench.k6_upstream import DIE_PATH
from genkan.bench.server_process import Command, ServerFailed, ServerProcess, running

Scenario = Literal["smoke", "steady", "stages", "spike", "failover", "cache", "prefix", "native", "engine"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

#: What k6 is told of the server it runs against. With a server of our own none of it comes from our environment.
SETTINGS = frozenset(
    {"URL", "MODEL", "MODELS", "API_KEY", "SPIKE_API_KEY", "SPIKE_MODEL", "FAULT_URL", "ECHOES", "EMBEDDINGS_MODEL"}
)

Environ = Mapping[str, str]
Config = dict[str, Any]

_PYTHON = Path(sys.executable)
_KEY_TIMEOUT_S = 60.0
_NOISY_PER_S = 20
_ROOM = 4  # of the narrow upstream, and as many that wait


def serving(scenario: Scenario, upstream_ms: int) -> AbstractContextManager[Environ]:
    """Servers of its own for a scenario, ready; what k6 is told of them. They are gone afterwards.

    ``upstream_ms`` is how long the fake upstream takes; the embedded engine takes what it takes. Raises ServerFailed.
    """
    if scenario in ("smoke", "prefix", "engine"):
        return _embedded()
    starts: dict[Scenario, Callable[[int], AbstractContextManager[Environ]]] = {"spike": _tenants, "failover": _chain}
    return starts.get(scenario, _two_models)(upstream_ms)


@contextmanager
def _embedded() -> Iterator[Environ]:
    """The default configuration: the embedded engine, real Redis, the Embedder."""
    with _genkan(None) as gateway:
        yield {"URL": _url(gateway)}


@contextmanager
def _two_models(upstream_ms: int) -> Iterator[Environ]:
    """Two models at one fake upstream."""
    with _upstream(upstream_ms) as fake:
        config: Config = {
            "upstreams": [_openai("fake", fake)],
            "models": [{"name": name, "upstream": "fake"} for name in ("fake-one", "fake-two")],
            "routes": [{"alias": "default", "chain": ["fake-one"]}],
            "prices": {"models": [{"model": "fake-one", "input": 2, "output": 8}]},
        }
        with _genkan(config) as gateway:
            yield {"URL": _url(gateway), "MODELS": "fake-one,fake-two", "ECHOES": "1"}


@contextmanager
def _chain(upstream_ms: int) -> Iterator[Environ]:
    """Two upstreams, of which the first dies when it is told to."""
    with _upstream(upstream_ms) as first, _upstream(upstream_ms) as second:
        config: Config = {
            "upstreams": [_openai("first", first), _openai("second", second)],
            "models": [
                {"name": "fake-model", "deployments": [{"upstream": "first", "model": "fake-model"}]},
                {"name": "fake-spare", "deployments": [{"upstream": "second", "model": "fake-model"}]},
            ],
            "routes": [{"alias": "default", "chain": ["fake-model", "fake-spare"]}],
        }
        with _genkan(config) as gateway:
            yield {"URL": _url(gateway), "FAULT_URL": _url(first) + DIE_PATH, "ECHOES": "1"}


@contextmanager
def _tenants(upstream_ms: int) -> Iterator[Environ]:
    """A tenant with a limit beside one without, and a model with little room beside one with much."""
    with _upstream(upstream_ms) as fake:
        narrow = _openai("narrow", fake) | {"connections": {"limit": _ROOM, "queue": _ROOM}}
        config: Config = {
            "upstreams": [_openai("fake", fake), narrow],
            "models": [{"name": "fake-model", "upstream": "fake"}, {"name": "narrow-model", "upstream": "narrow"}],
            "routes": [{"alias": "default", "chain": ["fake-model"]}],
            "tenants": [
                {"name": "quiet"},
                {"name": "noisy", "limits": {"requests": {"limit": _NOISY_PER_S, "window_s": 1}}},
            ],
        }
        with _genkan(config) as gateway:
            quiet, noisy = (_key(gateway, tenant) for tenant in ("quiet", "noisy"))
            for key in (quiet, noisy):  # a new key is known half a second later
                gateway.wait_until_answered(_get("/v1/models", key))
            yield {
                "URL": _url(gateway),
                "API_KEY": quiet,
                "SPIKE_API_KEY": noisy,
                "SPIKE_MODEL": "narrow-model",
                "ECHOES": "1",
            }


@contextmanager
def _genkan(config: Config | None) -> Iterator[ServerProcess]:
    """A ready gateway; without a configuration the default one."""
    line = [str(_PYTHON.with_name("bentoml")), "serve", ".", "--host", "127.0.0.1", "--port", "{port}"]
    command = Command("genkan", line)
    if config is not None:
        command = Command(
            "genkan", line, {"GENKAN_CONFIG": "{folder}/genkan.yaml"}, {"genkan.yaml": json.dumps(config)}
        )
    with _started(command) as server:
        server.wait_until_answered(_get("/readyz"))
        yield server


@contextmanager
def _upstream(answer_ms: int) -> Iterator[ServerProcess]:
    line = [sys.executable, "-m", "genkan.bench.k6_upstream", "{port}", str(answer_ms)]
    with _started(Command("the fake upstream", line)) as server:
        server.wait_until_answered(_get("/v1/models"))
        yield server


def _started(command: Command) -> AbstractContextManager[ServerProcess]:
    """On any core: k6 says when the machine is too small for it."""
    return running(command, frozenset(os.sched_getaffinity(0)))


def _openai(name: str, server: ServerProcess) -> Config:
    return {"name": name, "kind": "openai", "base_url": f"{_url(server)}/v1"}


def _url(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.port}"


def _get(path: str, key: str = "unused") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n".encode()


def _key(gateway: ServerProcess, tenant: str) -> str:
    """A new key. Raises ServerFailed."""
    line: Sequence[str] = [str(_PYTHON.with_name("genkan")), "keys", "create", "--tenant", tenant]
    environ = {
        **os.environ,
        "GENKAN_CONFIG": str(gateway.folder / "genkan.yaml"),
        "GENKAN__REDIS__DATA_DIR": str(gateway.folder / "data"),
    }
    made = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=_KEY_TIMEOUT_S, check=False)  # noqa: S603
    if made.returncode != 0:
        raise ServerFailed(f"no key for {tenant}: {made.stderr}")
    return made.stdout.strip()
