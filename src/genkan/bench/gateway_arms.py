"""The servers that `make bench-gateway` compares, and what each of them is sent and must answer."""

import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args

from genkan.bench import chat_traffic as traffic
from genkan.bench.chat_traffic import Requests
from genkan.bench.cores import Cores
from genkan.bench.http_load import Call, Check
from genkan.bench.proxy import UPSTREAM_VARIABLE
from genkan.bench.server_process import Command, ServerProcess, running
from genkan.bench.worker_profile import SITECUSTOMIZE

ArmName = Literal["direct", "raw_asgi", "bento_empty", "genkan_bare", "genkan_unlimited", "genkan"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)


@dataclass(frozen=True, slots=True)
class Arm:
    """A server under load. ``paths`` and ``checks`` are of whole answers and of streams."""

    name: ArmName
    server: ServerProcess
    paths: tuple[str, str] = (traffic.PATH, traffic.PATH)
    checks: tuple[Check, Check] = (traffic.check_whole, traffic.check_stream)

    def calls(self, *, stream: bool) -> Iterator[Call]:
        """Requests without end, no two alike."""
        request = Requests(self.server.port, stream=stream, path=self.paths[stream])
        check = self.checks[stream]
        return (Call(request(number), number, check) for number in count(1))

    def wait_ready(self) -> None:
        """Raises ServerFailed when it does not come up."""
        self.server.wait_until_answered(next(self.calls(stream=False)).request)


@contextmanager
def serving(names: Sequence[ArmName], cores: Cores, *, profiled: bool = False) -> Iterator[list[Arm]]:
    """The named arms, ready, and the upstream behind them; ended afterwards.

    ``profiled``: genkan's can be told to profile itself, see `worker_profile.py`. Raises ServerFailed when one does not
    come up.
    """
    with ExitStack() as stack:
        upstream = stack.enter_context(running(_FAKE_UPSTREAM, cores.load))
        direct = Arm("direct", upstream)
        direct.wait_ready()
        url = f"http://127.0.0.1:{upstream.port}"
        commands = {
            "raw_asgi": _raw_asgi(url),
            "bento_empty": _BENTO_EMPTY,
            "genkan_bare": genkan_command("genkan_bare", url, _BARE),
            "genkan_unlimited": genkan_command("genkan_unlimited", url, _LEDGER),
            "genkan": genkan_command("genkan", url, _LEDGER | _LIMITS, profiled=profiled),
        }
        arms: list[Arm] = []
        for name in names:
            if name == "direct":
                arms.append(direct)
                continue
            server = stack.enter_context(running(commands[name], cores.server))
            arms.append(
                Arm(name, server, ("/empty", "/events"), (traffic.check_empty, traffic.check_events))
                if name == "bento_empty"
                else Arm(name, server)
            )
            arms[-1].wait_ready()
            # As the upstream, Redis is another core's work, and mostly another machine's.
            server.move("redis-server", cores.load)
        yield arms


_ON_PORT = ("--host", "127.0.0.1", "--port", "{port}")
_BENTOML = str(Path(sys.executable).with_name("bentoml"))
_UVICORN = (sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log")

_FAKE_UPSTREAM = Command("the fake upstream", [sys.executable, "-m", "genkan.bench.fake_upstream", "{port}"])
_BENTO_EMPTY = Command("bento_empty", [_BENTOML, "serve", "genkan.bench.empty_service:Empty", *_ON_PORT])


_LIMITS: dict[str, Any] = {
    "limits": {
        "tenant": {"requests": {"limit": 10**9}, "tokens": {"limit": 10**12}, "concurrent": 10_000},
        "models": {traffic.MODEL: {"tokens": {"limit": 10**12}}},
    },
}
_LEDGER: dict[str, Any] = {"prices": {"models": [{"model": traffic.MODEL, "input": 2, "output": 8}]}}
_BARE: dict[str, Any] = {"redis": {"url": "memory"}, "ledger": {"enabled": False}}


def _raw_asgi(upstream: str) -> Command:
    line = [*_UVICORN, "--log-level", "warning", "--factory", "genkan.bench.proxy:create", *_ON_PORT]
    return Command("raw_asgi", line, {UPSTREAM_VARIABLE: upstream + traffic.PATH})


def genkan_command(name: str, upstream: str, settings: dict[str, Any], *, profiled: bool = False) -> Command:
    """This repository's service with that upstream alone and ``settings``; all else is as genkan's defaults have it.

    By default the ledger is kept, in an embedded Redis. ``_LIMITS`` are never reached.
    """
    key = "BENCH_UPSTREAM_KEY"
    config: dict[str, Any] = {
        "upstreams": [{"name": "fake", "kind": "openai", "base_url": f"{upstream}/v1", "api_key_env": key}],
        "models": [{"name": traffic.MODEL, "upstream": "fake"}],
        "routes": [{"alias": "default", "chain": [traffic.MODEL]}],
    }
    config |= settings
    environ = {"GENKAN_CONFIG": "{folder}/genkan.yaml", key: f"sk-bench-{secrets.token_hex(16)}"}
    files = {"genkan.yaml": json.dumps(config)}
    if profiled:
        environ["PYTHONPATH"] = "{folder}"
        files["sitecustomize.py"] = SITECUSTOMIZE
    return Command(name, [_BENTOML, "serve", ".", *_ON_PORT], environ, files)
