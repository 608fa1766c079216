"""Model servers that a real server starts, as `configs/gpu-vllm.yaml` has it, with a stand-in for the program.

What is shown is the life of processes and what passes between them; no model answers here, and no GPU.
"""

import json
import os
import signal
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.live_server import READY_S, LiveServer, wait_until
from prometheus_client.parser import text_string_to_metric_families

STAND_IN = Path(__file__).parents[1] / "model_server_stand_in.py"
KEY = "sk-of-our-own-vllm-7f3a9c51e2"
MODEL = "llama"
LIMIT_S = 20.0
SYSTEM = "You are the front door of a Japanese house. " * 8
QUICK = {
    "health_interval_s": 0.2,
    "health_timeout_s": 1.0,
    "unhealthy_after": 2,
    "backoff_s": 0.1,
    "stop_timeout_s": 1.0,
}


class Served:
    """A gateway whose only upstream is of two replicas that it starts itself, and the folder that steers these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first = consecutive_ports(2)
        self.ports = [first, first + 1]
        serve = {"model": "/models/llama", "command": [str(STAND_IN)], "replicas": 2, "port": first, **QUICK}
        settings: dict[str, Any] = {
            "upstreams": [
                {
                    "name": "vllm",
                    "kind": "vllm",
                    "api_key_env": "OUR_VLLM_KEY",
                    "serve": serve,
                    "health": {"interval_s": 0.3},  # asked of both, by the gateway's worker
                    "breaker": {"open_s": 0.3},
                }
            ],
            "models": [{"name": MODEL, "upstream": "vllm", "affinity": {}}],
            "routes": [{"alias": "default", "chain": [MODEL]}],
            "keys": {"secret_env": "OUR_SECRET"},
        }
        config = folder / "genkan.yaml"
        config.write_text(json.dumps(settings), encoding="utf-8")
        environ = {
            "GENKAN_CONFIG": str(config),
            "GENKAN__REDIS__DATA_DIR": str(folder / "data"),
            "OUR_SECRET": "a-secret-of-at-least-thirty-two-characters",
            "OUR_VLLM_KEY": KEY,
            "STAND_IN_FOLDER": str(folder),
        }
        self.server = LiveServer(env=environ)
        self.http = httpx.Client(base_url=self.server.base_url, timeout=15, trust_env=False)

    def close(self) -> None:
        self.http.close()

    def report(self, port: int) -> dict[str, Any]:
        """What the newest server at ``port`` said of itself when it was started."""
        path = self.folder / f"{port}.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def asked(self) -> list[tuple[int, dict[str, Any]]]:
        """Every body that was sent to either, and to which."""
        found = []
        for port in self.ports:
            path = self.folder / f"{port}.asked"
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines()
                found += [(port, body) for line in lines if "messages" in (body := json.loads(line))]
        return found

    def chat(self, key: str | None = None, text: str = "Who are you?", **more: Any) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        return self.http.post(
            "/v1/chat/completions", headers=headers, json={"model": MODEL, "messages": messages, **more}
        )

    def new_key(self, tenant: str, admin: str | None = None, **wanted: Any) -> str:
        """The first may be made by anybody on this machine, all others by an admin's."""
        headers = {} if admin is None else {"authorization": f"Bearer {admin}"}
        made = self.http.post("/admin/keys", headers=headers, json={"tenant": tenant, **wanted})
        return str(made.raise_for_status().json()["key"])

    def replica(self, system: str) -> str:
        """Which of the two answers in a conversation that begins so."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "?"}]
        answer = self.http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
        return str(answer.headers.get("x-genkan-upstream"))

    def both_asked(self) -> bool:
        found = {self.replica(f"You are number {number}.") for number in range(24)}
        return found == {"vllm-0", "vllm-1"}  # of one only: once in 8 million times

    def is_alive(self) -> bool:
        try:
            return self.http.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def up(self) -> dict[str, float]:
        """``genkan_model_server_up`` by upstream."""
        return self.samples("genkan_model_server_up")

    def samples(self, name: str) -> dict[str, float]:
        text = self.http.get("/metrics").text
        families = text_string_to_metric_families(text)
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return {sample.labels["upstream"]: sample.value for sample in samples}

    def both_up(self) -> bool:
        return self.up() == {"vllm-0": 1, "vllm-1": 1}

    def wait_for_another(self, port: int, old_pid: int) -> None:
        """Until another process is there in the place of one that died, and is well."""
        wait_until(lambda: self.report(port)["pid"] != old_pid, LIMIT_S, "another server is started")
        wait_until(self.both_up, LIMIT_S, "it is well")


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    """Its model servers are started, and wait to be let go on."""
    served = Served(tmp_path_factory.mktemp("served"))
    (served.folder / "slow").touch()
    try:
        served.server.start()
        wait_until(lambda: all(served.report(port) for port in served.ports), READY_S, "both are started")
        wait_until(served.is_alive, READY_S, "the gateway is up")
        yield served
    finally:
        served.close()
        served.server.destroy()


@pytest.fixture(scope="module")
def served(starting: Served) -> Served:
    """All is well."""
    (starting.folder / "slow").unlink(missing_ok=True)
    starting.server.wait_ready()
    wait_until(starting.both_up, LIMIT_S, "both are well")
    wait_until(starting.both_asked, LIMIT_S, "the gateway knows it")
    return starting


def test_while_they_start_the_gateway_is_up_and_says_when_to_come_back(starting: Served) -> None:
    assert starting.is_alive()
    assert starting.http.get("/readyz").status_code == 503
    answer = starting.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1


def test_each_is_told_its_port_its_gpu_its_key_and_none_of_our_secrets(starting: Served) -> None:
    for index, port in enumerate(starting.ports):
        report = starting.report(port)
        assert report["argv"][:2] == ["serve", "/models/llama"]
        assert report["argv"][report["argv"].index("--port") + 1] == str(port)
        assert report["argv"][report["argv"].index("--served-model-name") + 1] == MODEL
        assert report["environ"]["CUDA_VISIBLE_DEVICES"] == str(index)
        assert report["environ"]["VLLM_API_KEY"] == KEY
        assert not {"OUR_VLLM_KEY", "OUR_SECRET", "PROMETHEUS_MULTIPROC_DIR"} & set(report["environ"])
        assert KEY not in "".join(report["argv"])


def test_they_answer_whole_and_streamed(served: Served) -> None:
    whole = served.chat()
    assert whole.status_code == 200, whole.text
    content = whole.json()["choices"][0]["message"]["content"]
    assert content in [f"I am on port {port}." for port in served.ports]
    assert whole.headers["x-genkan-upstream"] in ("vllm-0", "vllm-1")
    events = served.chat(stream=True, stream_options={"include_usage": True}).text.split("\n\n")
    assert events[-2] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == content
    assert chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_prompts_that_begin_alike_go_to_one_replica_and_others_to_both(served: Served) -> None:
    assert served.both_asked()
    assert len({served.replica(SYSTEM) for _ in range(6)}) == 1


def test_their_metrics_stand_behind_ours_by_replica(served: Served) -> None:
    text = served.http.get("/metrics").text
    assert text.count("# TYPE vllm:request_success_total counter") == 1
    assert "python_info" not in text
    assert served.samples("vllm:request_success_total").keys() == {"vllm-0", "vllm-1"}


def test_the_log_has_their_lines_and_no_key(served: Served) -> None:
    assert "stand-in of /models/llama loads, with key ***" in served.server.log
    assert KEY not in served.server.log


def test_one_that_is_killed_is_started_again_and_nothing_of_it_is_left(served: Served) -> None:
    port = served.ports[0]
    before = served.report(port)
    os.kill(before["pid"], signal.SIGKILL)
    assert served.chat().status_code == 200  # by the other, if it was this one's
    served.wait_for_another(port, before["pid"])
    assert not is_alive(before["core"])
    assert served.samples("genkan_model_server_starts_total")["vllm-0"] == 2


def test_one_that_is_wedged_is_killed_and_started_again(served: Served) -> None:
    port = served.ports[1]
    before = served.report(port)
    wedge = served.folder / f"wedged-{port}"
    wedge.touch()
    wait_until(lambda: not is_alive(before["pid"]), LIMIT_S, "it is killed")
    wedge.unlink()
    served.wait_for_another(port, before["pid"])
    assert "bad answers to GET /health in a row" in served.server.log


def test_what_only_its_operator_may_say_is_refused_by_name(served: Served) -> None:
    asked = len(served.asked())
    answer = served.chat(kv_transfer_params={"remote_host": "10.0.0.1"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "kv_transfer_params"
    assert len(served.asked()) == asked


def test_tenants_have_salts_of_their_own_which_say_nothing_and_cannot_be_chosen(served: Served) -> None:
    acme = served.new_key("acme", role="admin")
    wait_until(lambda: served.chat(acme).status_code == 200, LIMIT_S, "the key is known")
    globex = served.new_key("globex", acme)
    wait_until(lambda: served.chat(globex).status_code == 200, LIMIT_S, "the other key is known")

    def salt(key: str, **more: Any) -> str:
        text = f"Question {len(served.asked())}."
        assert served.chat(key, text, **more).status_code == 200
        [(_, body)] = [(port, body) for port, body in served.asked() if body["messages"][1]["content"] == text]
        return str(body["cache_salt"])

    of_acme, of_globex, of_part = salt(acme), salt(globex), salt(globex, cache_salt="mine")
    assert salt(acme) == of_acme
    assert len({of_acme, of_globex, of_part, salt(globex, cache_salt=of_acme)}) == 4
    assert not any(name in given for name in ("acme", "globex", "mine") for given in (of_acme, of_globex, of_part))


def test_when_it_stops_nothing_is_left_even_of_one_that_is_deaf(served: Served) -> None:
    port = served.ports[0]
    before = served.report(port)
    (served.folder / "deaf").touch()
    os.kill(before["pid"], signal.SIGKILL)
    served.wait_for_another(port, before["pid"])
    cores = [served.report(port)["core"] for port in served.ports]
    served.server.stop()
    assert not any(map(is_alive, cores))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def consecutive_ports(count: int) -> int:
    """The first of so many that are free now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count < 65_536 and all(map(is_free, range(first, first + count))):
            return first


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
