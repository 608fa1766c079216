"""From upstreams that genkan serves to their servers, one for each replica. Pure.

An upstream of several replicas stands in the configuration once, and everything behind it knows each replica as an
upstream of its own, ``NAME-0``, ``NAME-1`` and so on: with its breaker, its health, its connections, its deployments.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from genkan.config import (
    Config,
    DeploymentConfig,
    ModelConfig,
    OpenAiUpstreamConfig,
    PriceConfig,
    ServeConfig,
    UpstreamConfig,
)
from genkan.errors import ConfigError

_UPSTREAM = "upstream:"  # before the name of one, in `embedder.model`


class Server(NamedTuple):
    """One model server that is to run: as an upstream, and as what the gateway's machine has for it."""

    name: str  # of the upstream that it is
    kind: str
    serve: ServeConfig
    port: int
    first_gpu: int  # where its GPUs begin among those of `serve.gpus`, or else among all
    names: tuple[str, ...]  # the models that are asked of it
    key_variable: str | None  # the environment variable with the key that it is to ask for


def servers(config: Config) -> list[Server]:
    """Those of ``config`` as it was loaded. Raises ConfigError where two would have a port, or nobody asks anything."""
    found: list[Server] = []
    used = 0
    for upstream in config.openai_upstreams:
        if upstream.serve is not None:
            found += _servers(config, upstream, upstream.serve, used)
            used += 0 if upstream.serve.gpus is not None else upstream.serve.replicas * upstream.serve.gpus_each
    taken: dict[int, str] = {}
    for server in found:
        if server.port in taken:
            raise ConfigError("upstreams", f"port {server.port} is of '{taken[server.port]}' and of '{server.name}'")
        taken[server.port] = server.name
    return found


def with_replicas(config: Config) -> Config:
    """``config`` with every replica as an upstream of its own, wherever its upstream was named; else ``config`` itself.

    Limits, weights and prices of a deployment are those of each of its replicas; embeddings are the first's. Raises
    ConfigError where a replica's name is taken.
    """
    replicas = {one.name: _names(one) for one in config.openai_upstreams if _count(one) > 1}
    if not replicas:
        return config
    upstreams: list[UpstreamConfig] = []
    for upstream in config.upstreams:
        if isinstance(upstream, OpenAiUpstreamConfig) and upstream.name in replicas:
            upstreams += _apart(upstream)
        else:
            upstreams.append(upstream)
    _check_names([upstream.name for upstream in upstreams])
    embedder = config.embedder
    for name, (first, *_) in replicas.items():
        if embedder is not None and (there := _embedding_there(config, name)) is not None:
            embedder = embedder.model_copy(update={"model": f"{_UPSTREAM}{first}/{there}"})
    prices = [price for entry in config.prices.models for price in _prices(entry, replicas)]
    return config.model_copy(
        update={
            "upstreams": upstreams,
            "models": [_model(model, replicas) for model in config.models],
            "embedder": embedder,
            "prices": config.prices.model_copy(update={"models": prices}),
        }
    )


def _servers(config: Config, upstream: OpenAiUpstreamConfig, serve: ServeConfig, used_gpus: int) -> Iterator[Server]:
    names = tuple(dict.fromkeys(_asked(config, upstream.name)))
    if not names:
        raise ConfigError("models", f"at least one must name the upstream '{upstream.name}', which genkan serves")
    begin = 0 if serve.gpus is not None else used_gpus
    for index, (name, port) in enumerate(zip(_names(upstream), serve.ports(upstream.kind), strict=True)):
        first_gpu = begin + index * serve.gpus_each
        yield Server(name, upstream.kind, serve, port, first_gpu, names, upstream.api_key_env)


def _asked(config: Config, upstream: str) -> Iterator[str]:
    """The names under which models are asked there."""
    for model in config.models:
        yield from (place.model or model.name for place in model.places if place.upstream == upstream)
    embedding = _embedding_there(config, upstream)
    if embedding is not None:
        yield embedding


def _embedding_there(config: Config, upstream: str) -> str | None:
    beginning = f"{_UPSTREAM}{upstream}/"
    model = "" if config.embedder is None else config.embedder.model
    return model.removeprefix(beginning) if model.startswith(beginning) else None


def _count(upstream: OpenAiUpstreamConfig) -> int:
    return 1 if upstream.serve is None else upstream.serve.replicas


def _names(upstream: OpenAiUpstreamConfig) -> list[str]:
    count = _count(upstream)
    return [upstream.name] if count == 1 else [f"{upstream.name}-{index}" for index in range(count)]


def _apart(upstream: OpenAiUpstreamConfig) -> Iterator[OpenAiUpstreamConfig]:
    assert upstream.serve is not None
    for index, name in enumerate(_names(upstream)):
        url = upstream.serve.base_url(upstream.kind, index)
        yield upstream.model_copy(update={"name": name, "base_url": url})


def _model(model: ModelConfig, replicas: dict[str, list[str]]) -> ModelConfig:
    if not any(place.upstream in replicas for place in model.places):
        return model
    places: list[DeploymentConfig] = [
        place.model_copy(update={"upstream": name})
        for place in model.places
        for name in replicas.get(place.upstream, [place.upstream])
    ]
    return model.model_copy(update={"upstream": None, "deployments": places})


def _prices(entry: PriceConfig, replicas: dict[str, list[str]]) -> Iterator[PriceConfig]:
    if entry.upstream is None or entry.upstream not in replicas:
        yield entry
        return
    for name in replicas[entry.upstream]:
        yield entry.model_copy(update={"upstream": name})


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                "upstreams", f"the name '{name}' is taken, by a replica of an upstream that genkan serves"
            )
