"""The gateway that is soaked: this repository's service behind one upstream, each on a core of its own."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from genkan.bench.chat_traffic import Requests
from genkan.bench.cores import Cores
from genkan.bench.gateway_arms import genkan_command
from genkan.bench.server_process import Command, ServerProcess, running


@dataclass(frozen=True, slots=True)
class Upstream:
    """How long it takes to give a whole answer, and from one event of a stream to the next; 0 and 0: at once."""

    answer_s: float = 0.0
    event_s: float = 0.0

    def command(self) -> Command:
        """How to start it."""
        python = [sys.executable, "-m"]
        if self == Upstream():
            return Command("the upstream", [*python, "genkan.bench.fake_upstream", "{port}"])
        times = [str(self.answer_s), str(self.event_s)]
        return Command("the upstream", [*python, "genkan.bench.slow_upstream", "{port}", *times])


@contextmanager
def serving_behind(upstream: Upstream, cores: Cores, settings: Mapping[str, Any]) -> Iterator[ServerProcess]:
    """The gateway with ``settings``, ready, and the upstream behind it; ended afterwards.

    The setting ``connections`` is the upstream's. Raises ServerFailed when one does not come up.
    """
    with running(upstream.command(), cores.load) as behind:
        request = Requests(behind.port, stream=False)
        behind.wait_until_answered(request(1))
        url = f"http://127.0.0.1:{behind.port}/v1"
        rest = dict(settings)
        connections = rest.pop("connections", {})
        rest["upstreams"] = [{"name": "fake", "kind": "openai", "base_url": url, "connections": connections}]
        with running(genkan_command("genkan", url, rest), cores.server) as server:
            server.wait_until_answered(Requests(server.port, stream=False)(1))
            server.move("redis-server", cores.load)  # as the upstream, it is another core's work
            yield server
