"""Streams that break off at one upstream and go on at another, seen by a user of OpenAI's client.

Each way of going on is asserted to have been taken, by the ledger's rows; what it took is billed once.
"""

import json
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from e2e.fault_gateway import Metrics
from e2e.live_server import LiveServer, running_server, wait_until
from e2e.tapped_client import QUESTION, Outcome, TappedClient, tapped_client
from faults.canonical import DONE, TEXT, TOKENS, USAGE, event
from faults.going_on import TOOL_ARGUMENTS
from faults.process import RunningUpstream, running_upstream

#: What ends a stream after 40 tokens, and what the ledger calls that.
FAULTS = {
    "cut-after-40": "upstream_stream_interrupted",
    "stalled-after-40": "upstream_timeout",
    "garbage-after-40": "upstream_invalid_response",
}
#: How each upstream is declared, and the model there that does so.
FORMS = {
    "none": "ok",
    "message": "ok-message",
    "vllm": "ok-vllm",
    "prefix": "ok-prefix",
    "prefix-echoed": "ok-prefix-echoed",
}
ENGINE_MODEL = "smol"
ENGINE_TOKENS = 40
QUICK = {"connect_s": 2.0, "first_token_s": 5.0, "between_tokens_s": 0.5, "total_s": 10.0}
SILENT = {**QUICK, "first_token_s": 30.0}
USAGE_ASKED: dict[str, Any] = {"stream_options": {"include_usage": True}}
#: Routes beside those of FAULTS and FORMS: what begins, at whom goes on, and that model's name there.
PAIRS = {
    "refuses": ("cut-after-40", "vllm", "rejects-prefill"),
    "diverges": ("cut-after-40", "none", "diverges"),
    "calls": ("tools-cut", "none", "tools-ok"),
    "other-calls": ("tools-cut", "vllm", "tools-diverge"),
    "thinks": ("reasoning-cut", "vllm", "reasoning-ok"),
    "completes": ("cut-after-40", "none", "ok-prompt"),
    "silent": ("cut-after-40", "silent", "headers-then-silence"),
    "cut-again": ("cut-after-40", "none", "cut-after-40"),
}


class Gateway:
    """A gateway with an engine and fault upstreams."""

    def __init__(self, server: LiveServer, primary: RunningUpstream, backup: RunningUpstream) -> None:
        self.server = server
        self.primary = primary
        self.backup = backup
        self._http = httpx.Client(base_url=server.base_url, timeout=10, trust_env=False)

    def row(self, route: str) -> dict[str, Any]:
        """The latest row of the ledger of a route, as soon as it is there."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [row for row in self._rows() if row["route"] == route]
            return bool(found)

        wait_until(is_there, 10.0, f"the ledger has a row of {route}")
        return found[-1]

    def ways(self, route: str) -> list[tuple[str, str | None]]:
        """Each attempt of that row: how it ended, and in which way it went on."""
        return [(attempt["state"], attempt.get("way")) for attempt in self.row(route)["attempts"]]

    def metrics(self) -> Metrics:
        return Metrics(self._http.get("/metrics").raise_for_status().text)

    def close(self) -> None:
        self._http.close()

    def _rows(self) -> list[dict[str, Any]]:
        answer = self._http.get("/admin/ledger?limit=10000&attempts=false").raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]


class CutText(BaseHTTPRequestHandler):
    """A server that says a text, and then is ``cut``, ``stalled``, or says what is ``garbage``."""

    text = ""
    how = "cut"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", "1000000")
        self.end_headers()
        for delta in ({"role": "assistant", "content": ""}, *({"content": one} for one in self.text)):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(event(json.dumps(chunk).encode()))
        if self.how == "garbage":
            self.wfile.write(event(b'{"id": "c", "choices": [{"index": 0, "delta": {'))
        if self.how != "cut":
            self.rfile.read(1)  # until the gateway hangs up
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


@contextmanager
def cut_text_server() -> Generator[str, None, None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), CutText) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_address[1]}/v1"
        finally:
            served.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path = tmp_path_factory.mktemp("resume") / "genkan.json"
    with running_upstream() as primary, running_upstream() as backup, cut_text_server() as cut_text:
        path.write_text(json.dumps(configuration(path.parent, primary.base_url, backup.base_url, cut_text)))
        with running_server({"GENKAN_CONFIG": str(path)}) as server:
            gateway = Gateway(server, primary, backup)
            try:
                yield gateway
            finally:
                gateway.close()


def configuration(folder: Path, primary: str, backup: str, cut_text: str) -> dict[str, Any]:
    def upstream(name: str, url: str, prefill: str = "none", timeouts: dict[str, float] = QUICK) -> dict[str, Any]:
        own = {"timeouts": timeouts, "health": {"interval_s": 0.0}, "prefill": prefill}
        return {"name": name, "kind": "openai", "base_url": url, **own}

    def model(name: str, fault: str, form: str, there: str) -> dict[str, Any]:
        places = [{"upstream": "primary", "model": fault}, {"upstream": form, "model": there, "weight": 0}]
        return {"name": name, "deployments": places}

    begun = [model(f"{fault}.{form}", fault, form, there) for fault in FAULTS for form, there in FORMS.items()]
    return {
        "redis": {"data_dir": str(folder / "data")},
        "engine": {"kv_memory_bytes": 64 << 20, "max_model_len": 512},
        "upstreams": [
            {"name": "engine", "kind": "engine"},
            upstream("primary", primary),
            {**upstream("text", cut_text), "breaker": {"consecutive_failures": 10, "alone_failures": 10}},
            upstream("silent", backup, "vllm", SILENT),
            *(upstream(form, backup, form) for form in FORMS),
        ],
        "models": [
            *begun,
            *(model(name, *pair) for name, pair in PAIRS.items()),
            {"name": "smol-there", "upstream": "text", "resume_group": "smol"},
            {"name": ENGINE_MODEL, "upstream": "engine", "resume_group": "smol"},
            {"name": "cut", "deployments": [{"upstream": "primary", "model": "cut-after-40"}]},
            {"name": "cut-alone", "deployments": [{"upstream": "primary", "model": "cut-after-40"}]},
            {"name": "another", "deployments": [{"upstream": "none", "model": "ok"}]},
        ],
        "routes": [
            {"alias": "through-the-engine", "chain": ["smol-there", ENGINE_MODEL]},
            {"alias": "to-another", "chain": ["cut", "another"], "resume": {"other_models": True}},
            {"alias": "not-to-another", "chain": ["cut-alone", "another"]},
        ],
        "prices": {"models": [{"model": "another", "input": 1.0, "output": 1.0}, {"model": "cut", "flat": 4.0}]},
    }


@pytest.fixture
def client(gateway: Gateway) -> Generator[TappedClient, None, None]:
    with tapped_client(gateway.server.base_url) as client:
        yield client


def assert_one_answer(outcome: Outcome) -> None:
    """All of it, once, and nothing in its chunks tells where it was joined."""
    assert outcome.whole
    assert b'"error"' not in outcome.wire
    chunks = [json.loads(line[6:]) for line in outcome.wire.splitlines() if line.startswith(b"data: {")]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert [chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["delta"].get("role")] == chunks[:1]
    assert not any("genkan" in chunk for chunk in chunks)


def assert_one_error(wire: bytes, code: str) -> None:
    assert wire.count(b'data: {"error":') == 1
    assert json.loads(wire.splitlines()[-4][6:])["error"]["code"] == code
    assert wire.endswith(event(DONE))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_client_gets_the_whole_answer_once(gateway: Gateway, client: TappedClient, fault: str, form: str) -> None:
    route = f"{fault}.{form}"
    outcome = client.ask(route, stream=True, **USAGE_ASKED)
    assert_one_answer(outcome)
    way = "replay" if form == "none" else "prefill"
    row = gateway.row(route)
    first, second = row["attempts"]
    assert first["state"] == FAULTS[fault]
    assert (second["state"], second["way"]) == ("ok", way)
    # The client pays one answer, and each attempt stands there with its own.
    assert row["usage"] == {"prompt": 7, "completion": 60, "cached": 0, "cache_write": 0}
    assert (row["state"], row["answered"], row["estimated"]) == ("ok", 1, False)
    said = 0 if way == "replay" else 39  # without the space at their end
    assert second["usage"] == {"prompt": 7 + said, "completion": 60 - said, "cached": 0, "cache_write": 0}
    assert outcome.usage is not None
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (7, 60)
    assert outcome.usage.model_extra == {"resumed": [{"model": route, "way": way}], "cost_usd": None}
    assert gateway.metrics().value("resumes_total", route=route, way=way, outcome="ok") == 1


def test_a_stream_that_did_not_ask_for_usage_gets_none(gateway: Gateway, client: TappedClient) -> None:
    outcome = client.ask("cut-after-40.vllm", stream=True)
    assert_one_answer(outcome)
    assert b'"usage"' not in outcome.wire
    assert gateway.row("cut-after-40.vllm")["usage"]["completion"] == 60


def test_an_upstream_that_takes_no_beginning_is_asked_anew(gateway: Gateway, client: TappedClient) -> None:
    assert_one_answer(client.ask("refuses", stream=True))
    replay = [("upstream_stream_interrupted", None), ("refused", "prefill"), ("ok", "replay")]
    assert gateway.ways("refuses") == replay
    assert_one_answer(client.ask("refuses", stream=True))
    asked = [attempt["body"]["messages"][-1]["role"] for attempt in gateway.backup.attempts("rejects-prefill")]
    assert asked == ["assistant", "user", "user"]  # it is remembered


def test_another_answer_ends_in_one_error(gateway: Gateway, client: TappedClient) -> None:
    outcome = client.ask("diverges", stream=True)
    assert type(outcome.error) is openai.APIError
    assert outcome.code == "upstream_answer_diverged"
    assert outcome.text == "".join(TOKENS[:40])
    assert_one_error(outcome.wire, "upstream_answer_diverged")
    states = [("upstream_stream_interrupted", None), ("upstream_answer_diverged", "replay")]
    assert gateway.ways("diverges") == states


def called(chunks: Any) -> str:
    """The arguments of the one call of a stream, whose name and id come once."""
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert [call.id for call in calls if call.id] == ["call_cut"]
    assert [call.function.name for call in calls if call.function.name] == ["weather"]
    return "".join(call.function.arguments or "" for call in calls)


def test_a_call_goes_on_if_it_is_the_same_to_the_byte(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.server.base_url}/v1", api_key="unused", max_retries=0) as sdk:
        chunks = sdk.chat.completions.create(model="calls", messages=QUESTION, stream=True)
        assert called(chunks) == TOOL_ARGUMENTS
    assert gateway.ways("calls") == [("upstream_stream_interrupted", None), ("ok", "replay")]


def test_another_call_ends_in_one_error(gateway: Gateway, client: TappedClient) -> None:
    outcome = client.ask("other-calls", stream=True)
    assert outcome.code == "upstream_answer_diverged"
    assert_one_error(outcome.wire, "upstream_answer_diverged")
    assert b"An" not in outcome.wire.partition(b'data: {"error":')[0]


def test_thoughts_are_gone_on_with_by_thinking_again(gateway: Gateway, client: TappedClient) -> None:
    outcome = client.ask("thinks", stream=True)
    assert_one_answer(outcome)
    chunks = [json.loads(line[6:]) for line in outcome.wire.splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "hm, yes"
    assert gateway.ways("thinks")[1] == ("ok", "replay")


def test_a_text_completion_goes_on_by_its_prompt(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.server.base_url}/v1", api_key="unused", max_retries=0) as sdk:
        chunks = sdk.completions.create(model="completes", prompt="Count.", stream=True, max_tokens=80)
        assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == TEXT
    assert gateway.ways("completes")[1] == ("ok", "prompt")
    (asked,) = gateway.backup.attempts("ok-prompt")
    assert asked["body"]["prompt"] == "Count." + "".join(TOKENS[:40])
    assert asked["body"]["max_tokens"] == 40


@pytest.mark.parametrize(
    ("how", "broke"),
    [
        ("cut", "upstream_stream_interrupted"),
        ("stalled", "upstream_timeout"),
        ("garbage", "upstream_invalid_response"),
    ],
)
def test_the_engine_goes_on_from_the_text_itself(gateway: Gateway, client: TappedClient, how: str, broke: str) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": ENGINE_TOKENS, "genkan": {"cache": "no-cache"}}
    own = client.ask(ENGINE_MODEL, stream=False, **options)
    assert own.usage is not None
    CutText.text, CutText.how = own.text[: len(own.text) // 2], how
    resumed = client.ask("through-the-engine", stream=True, **options, **USAGE_ASKED)
    assert resumed.error is None
    assert (resumed.text, resumed.finish_reason) == (own.text, own.finish_reason)
    assert gateway.ways("through-the-engine") == [(broke, None), ("ok", "prompt")]
    assert resumed.usage is not None
    assert resumed.usage.total_tokens == own.usage.total_tokens
    assert resumed.usage.completion_tokens == own.usage.completion_tokens


def test_another_model_goes_on_only_if_its_route_says_so_and_is_named(gateway: Gateway, client: TappedClient) -> None:
    outcome = client.ask("to-another", stream=True, **USAGE_ASKED)
    assert outcome.whole
    mark = {"model": "another", "way": "replay"}
    assert outcome.wire.count(b'"genkan":{"resumed":{"model":"another","way":"replay"}}') == 1
    assert outcome.usage is not None
    price = 4.0 / 10**6  # of who began it
    cost_usd = (USAGE["prompt_tokens"] + USAGE["completion_tokens"]) * price
    assert outcome.usage.model_extra == {"resumed": [mark], "cost_usd": pytest.approx(cost_usd)}
    assert [attempt["cost_nano_usd"] for attempt in gateway.row("to-another")["attempts"]][1] == 67_000


def test_it_does_not_otherwise(gateway: Gateway, client: TappedClient) -> None:
    asked = len(gateway.backup.attempts("ok"))
    outcome = client.ask("not-to-another", stream=True)
    assert outcome.code == "upstream_stream_interrupted"
    assert_one_error(outcome.wire, "upstream_stream_interrupted")
    assert len(gateway.backup.attempts("ok")) == asked
    assert outcome.text == "".join(TOKENS[:40])
    # Only the one that broke off was asked once more, and did so again.
    ways = [("upstream_stream_interrupted", None), ("upstream_stream_interrupted", "replay")]
    assert gateway.ways("not-to-another") == ways


def test_what_breaks_off_again_and_again_ends_in_one_error(gateway: Gateway, client: TappedClient) -> None:
    outcome = client.ask("cut-again", stream=True)
    assert outcome.text == "".join(TOKENS[:40])
    assert_one_error(outcome.wire, "upstream_stream_interrupted")
    state = "upstream_stream_interrupted"
    assert gateway.ways("cut-again") == [(state, None), (state, "replay"), (state, "replay")]


def test_a_client_that_leaves_meanwhile_frees_everything(gateway: Gateway) -> None:
    body = {"model": "silent", "messages": QUESTION, "stream": True}
    with httpx.stream("POST", f"{gateway.server.base_url}/v1/chat/completions", json=body, trust_env=False) as answer:
        for line in answer.iter_lines():
            if TOKENS[39].strip() in line:
                break
        wait_until(lambda: bool(gateway.backup.attempts("headers-then-silence")), 5.0, "another is asked")
    wait_until(lambda: outcomes(gateway) == ["client gone"], 5.0, "nobody is asked any more")
    row = gateway.row("silent")
    assert (row["state"], row["estimated"]) == ("client_gone", True)
    assert row["usage"]["completion"] == len("".join(TOKENS[:40])) // 4
    assert gateway.ways("silent") == [("upstream_stream_interrupted", None), ("client_gone", "prefill")]


def outcomes(gateway: Gateway) -> list[str]:
    return [str(attempt["outcome"]) for attempt in gateway.backup.attempts("headers-then-silence")]


def test_the_log_tells_how_it_went_on(gateway: Gateway, client: TappedClient) -> None:
    client.ask("cut-after-40.prefix", stream=True)
    part = '"resumed":[{"model":"cut-after-40.prefix","way":"prefill"}]'
    wait_until(lambda: part in gateway.server.log.replace(" ", ""), 5.0, "the line is written")
