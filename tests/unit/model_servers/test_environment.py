"""The environment of model servers: GPUs, keys, and what they must not see."""

from typing import Any

import pytest
from served import served_config

from genkan.errors import ConfigError
from genkan.model_servers.environment import environments
from genkan.model_servers.replicas import servers

PLAIN = {"PATH": "/bin", "HF_TOKEN": "theirs", "NCCL_DEBUG": "INFO"}


def found(*upstreams: dict[str, Any], environ: dict[str, str] | None = None, **more: Any) -> dict[str, dict[str, str]]:
    config = served_config(*upstreams, **more)
    return environments(config, servers(config), environ or PLAIN)


def vllm(**serve: Any) -> dict[str, Any]:
    return {"name": "v", "serve": {"model": "m", **serve}}


def gpus(*upstreams: dict[str, Any], visible: str | None = None) -> list[str | None]:
    environ = PLAIN if visible is None else {**PLAIN, "CUDA_VISIBLE_DEVICES": visible}
    return [own.get("CUDA_VISIBLE_DEVICES") for own in found(*upstreams, environ=environ).values()]


def test_one_server_sees_what_we_see() -> None:
    assert gpus(vllm(tensor_parallel=2)) == [None]
    assert gpus(vllm(tensor_parallel=2), visible="4,5,6") == ["4,5,6"]


def test_several_share_them_out() -> None:
    assert gpus(vllm(replicas=3)) == ["0", "1", "2"]
    assert gpus(vllm(replicas=2, tensor_parallel=2)) == ["0,1", "2,3"]
    assert gpus(vllm(replicas=2), visible="6, 7") == ["6", "7"]
    assert gpus(vllm(replicas=2), visible="GPU-1f,GPU-2e") == ["GPU-1f", "GPU-2e"]


def test_or_those_that_are_named() -> None:
    assert gpus(vllm(gpus=[5])) == ["5"]
    assert gpus(vllm(replicas=2, pipeline_parallel=2, gpus=[7, 6, 5, 4])) == ["7,6", "5,4"]


def test_ray_places_servers_itself() -> None:
    other = {"name": "w", "serve": {"model": "n", "port": 9000}}
    assert gpus(vllm(distributed_executor="ray", tensor_parallel=16), other) == [None, "16"]


def test_too_few_are_told_before_anything_is_started() -> None:
    with pytest.raises(ConfigError, match="'v-1' needs 4 GPUs"):
        gpus(vllm(replicas=2, tensor_parallel=2), visible="0,1,2")


def test_what_is_ours_stays_ours() -> None:
    cloud = {"name": "c", "kind": "openai", "base_url": "https://h/v1", "api_key_env": "CLOUD_KEY"}
    ours = {
        "CLOUD_KEY": "a", "REDIS_URL": "b", "CACHE_URL": "c", "SECRET": "d", "GENKAN_CONFIG": "e", "BENTOML_HOME": "f",
        "PROMETHEUS_MULTIPROC_DIR": "g", "COLLECTOR_KEY": "h",
    }  # fmt: skip
    own = found(
        vllm(),
        cloud,
        environ={**PLAIN, **ours},
        redis={"url_env": "REDIS_URL"},
        cache={"url_env": "CACHE_URL"},
        keys={"secret_env": "SECRET"},
        telemetry={"otlp": {"endpoint": "http://c:4318", "headers_env": {"authorization": "COLLECTOR_KEY"}}},
    )
    assert own == {"v": PLAIN}


def test_vllm_has_its_key_from_its_environment() -> None:
    keyed = {**vllm(), "api_key_env": "KEY"}
    assert found(keyed, environ={**PLAIN, "KEY": "k"}) == {"v": {**PLAIN, "VLLM_API_KEY": "k"}}
    assert found({**keyed, "kind": "sglang"}, environ={**PLAIN, "KEY": "k"}) == {"v": PLAIN}  # in a file


@pytest.mark.parametrize("environ", [PLAIN, {**PLAIN, "KEY": ""}])
def test_a_key_that_is_not_set_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="KEY, the key of 'v', is not set"):
        found({**vllm(), "api_key_env": "KEY"}, environ=environ)
