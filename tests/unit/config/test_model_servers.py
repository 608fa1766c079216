"""Upstreams of kinds vllm and sglang in the file: what is known of them, and servers that genkan starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from genkan.config import Config, OpenAiUpstreamConfig, load
from genkan.errors import ConfigError

ROOT = Path(__file__).parents[3]


def loaded(tmp_path: Path, **upstream: Any) -> Config:
    path = tmp_path / "genkan.yaml"
    settings = {"upstreams": [{"name": "v", "kind": "vllm", **upstream}], "models": [{"name": "m", "upstream": "v"}]}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load(path, {})


def upstream_of(config: Config) -> OpenAiUpstreamConfig:
    [upstream] = config.openai_upstreams
    return upstream


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_of_the_two_it_is_known_how_they_go_on_and_that_they_count(tmp_path: Path, kind: str) -> None:
    upstream = upstream_of(loaded(tmp_path, kind=kind, base_url="http://h:8000/v1"))
    assert (upstream.prefill, upstream.counts_tokens, upstream.serve) == ("vllm", True, None)
    assert (upstream.health.interval_s, upstream.share_prefix_cache) == (15.0, False)


def test_what_is_said_goes_before_what_is_known(tmp_path: Path) -> None:
    upstream = upstream_of(loaded(tmp_path, serve={"model": "n"}, prefill="none", breaker={"open_s": 9.0}))
    assert (upstream.prefill, upstream.breaker.open_s, upstream.health.interval_s) == ("none", 9.0, 2.0)


@pytest.mark.parametrize(("kind", "port"), [("vllm", 8000), ("sglang", 30000)])
def test_a_server_of_ours_is_on_loopback_at_its_own_port(tmp_path: Path, kind: str, port: int) -> None:
    assert upstream_of(loaded(tmp_path, kind=kind, serve={"model": "n"})).base_url == f"http://127.0.0.1:{port}/v1"
    served = loaded(tmp_path, kind=kind, serve={"model": "n", "port": 9000, "replicas": 2})
    assert upstream_of(served).base_url == "http://127.0.0.1:9000/v1"


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    config = loaded(tmp_path, serve={"model": "n", "replicas": 2})
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("upstream", "path", "says"),
    [
        ({}, "upstreams[0].base_url", "field required"),
        ({"serve": {"model": "n"}, "base_url": "http://h/v1"}, "upstreams[0].base_url", "goes without 'serve'"),
        ({"serve": {}}, "upstreams[0].serve.model", "field required"),
        ({"serve": {"model": "n", "x": 1}}, "upstreams[0].serve.x", "unknown key; allowed: model, command"),
        ({"kind": "openai", "serve": {"model": "n"}}, "upstreams[0].serve", "of kind 'vllm' and 'sglang' only"),
        (
            {"kind": "openai", "base_url": "http://h", "share_prefix_cache": True},
            "upstreams[0].share_prefix_cache",
            "is for kinds 'vllm' and 'sglang'",
        ),
        ({"serve": {"model": "n", "memory_share": 1.0}}, "upstreams[0].serve.memory_share", "less than or equal"),
        ({"serve": {"model": "n", "port": 80}}, "upstreams[0].serve.port", "greater than or equal to 1024"),
        ({"serve": {"model": "n", "port": 65535, "replicas": 2}}, "upstreams[0].serve", "room for 2 replicas"),
        ({"serve": {"model": "n", "gpus": [0], "tensor_parallel": 2}}, "upstreams[0].serve", "gpus must be 2"),
        ({"serve": {"model": "n", "gpus": [0, 0], "replicas": 2}}, "upstreams[0].serve", "gpus must be 2"),
        (
            {"serve": {"model": "n", "distributed_executor": "ray", "replicas": 2}},
            "upstreams[0].serve",
            "with ray",
        ),
        ({"serve": {"model": "n\nm"}}, "upstreams[0].serve.model", "pattern"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, upstream: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **upstream)
    assert caught.value.path == path
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    ["--api-key", "--api-key=sk-1", "--api_key", "--port", "--host=0.0.0.0", "--served-model-name", "--config"],
)
def test_what_genkan_says_and_secrets_are_no_arguments(tmp_path: Path, argument: str) -> None:
    with pytest.raises(ConfigError, match="is for genkan to say") as caught:
        loaded(tmp_path, serve={"model": "n", "arguments": [argument, "sk-secret-of-ours"]})
    assert "sk-secret-of-ours" not in str(caught.value)


@pytest.mark.parametrize("argument", ["--enforce-eager", "--portable", "--api-server-count", "2", "-O3"])
def test_all_else_is(tmp_path: Path, argument: str) -> None:
    serve = upstream_of(loaded(tmp_path, serve={"model": "n", "arguments": [argument]})).serve
    assert serve is not None
    assert serve.arguments == [argument]


@pytest.mark.parametrize(("name", "kind"), [("gpu-vllm", "vllm"), ("gpu-sglang", "sglang")])
def test_the_shipped_files_have_two_replicas_behind_affinity(name: str, kind: str) -> None:
    config = load(ROOT / f"configs/{name}.yaml", {})
    upstream = upstream_of(config)
    assert upstream.serve is not None
    assert (upstream.kind, upstream.serve.replicas, upstream.share_prefix_cache) == (kind, 2, False)
    assert config.models[0].affinity is not None
    assert config.routes[0].chain == [config.models[0].name, "smollm2-135m-instruct"]


def test_the_shipped_file_for_our_own_engine_wants_a_gpu() -> None:
    engine = load(ROOT / "configs/gpu-torch.yaml", {}).engine
    assert (engine.device, engine.kernels, engine.cuda_graphs) == ("cuda", "triton", True)
