"""The environment of a model server: whose GPUs, whose key, and none of our secrets. Pure."""

from collections.abc import Mapping

from genkan.config import Config
from genkan.errors import ConfigError
from genkan.model_servers.replicas import Server

GPUS = "CUDA_VISIBLE_DEVICES"
_VLLM_KEY = "VLLM_API_KEY"
#: BentoML's metrics, among others: vLLM would write its own into the same folder.
_OURS = ("GENKAN_", "BENTOML_", "PROMETHEUS_")


def environments(config: Config, servers: list[Server], environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Of each server by its name: ``environ`` without what is ours, and with what it needs.

    A single server that nothing is said of sees the GPUs that we see. Raises ConfigError where there are fewer than
    are needed, and where a key is not set.
    """
    secrets = _secret_variables(config)
    base = {name: value for name, value in environ.items() if name not in secrets and not name.startswith(_OURS)}
    found = {}
    for server in servers:
        own = {**base, **_gpus(server, environ, is_alone=len(servers) == 1)}
        key = server_key(server, environ)
        if key is not None and server.kind == "vllm":
            own[_VLLM_KEY] = key
        found[server.name] = own
    return found


def server_key(server: Server, environ: Mapping[str, str]) -> str | None:
    """The key that the server is to ask for; None where it asks for none. Raises ConfigError where it is not set."""
    if server.key_variable is None:
        return None
    key = environ.get(server.key_variable)
    if not key:
        raise ConfigError("upstreams", f"{server.key_variable}, the key of '{server.name}', is not set")
    return key


def _secret_variables(config: Config) -> frozenset[str | None]:
    keys = {upstream.api_key_env for upstream in config.openai_upstreams}
    otlp = config.telemetry.otlp
    headers = set() if otlp is None else set(otlp.headers_env.values())
    return frozenset(keys | headers | {config.redis.url_env, config.cache.url_env, config.keys.secret_env})


def _gpus(server: Server, environ: Mapping[str, str], *, is_alone: bool) -> dict[str, str]:
    serve = server.serve
    if serve.gpus is None and (is_alone or serve.distributed_executor == "ray"):
        return {}
    wanted = slice(server.first_gpu, server.first_gpu + serve.gpus_each)
    visible = environ.get(GPUS)
    if serve.gpus is not None:
        pool = [str(gpu) for gpu in serve.gpus]
    elif visible is not None:
        pool = [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    else:
        pool = [str(gpu) for gpu in range(wanted.stop)]
    if len(pool) < wanted.stop:
        raise ConfigError(
            "upstreams", f"'{server.name}' needs {wanted.stop} GPUs with those before it; {GPUS} has {len(pool)}"
        )
    return {GPUS: ",".join(pool[wanted])}
