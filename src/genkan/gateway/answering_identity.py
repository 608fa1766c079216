"""What answers a route's requests, as bytes: where it changes, answers that were stored before are another's."""

import orjson

from genkan.config import Config, EngineUpstreamConfig, ModelConfig

_FORMAT = 1


def answering_identities(config: Config) -> dict[str, bytes]:
    """For each route, and each model under its own name: the first model of its chain, and where that is served.

    Only its answers are stored: those of the models after it are given while it cannot, and should not outlast that.
    """
    models = {model.name: model for model in config.models}
    firsts = {name: name for name in models} | {route.alias: route.chain[0] for route in config.routes}
    firsts |= {canary_identity(route.alias): route.canary.model for route in config.routes if route.canary is not None}
    return {name: _identity(config, models[first]) for name, first in firsts.items()}


def canary_identity(route: str) -> str:
    """Under what name the answers of a route's canary are kept apart. No route can have it."""
    return f"{route}~canary"


def _identity(config: Config, model: ModelConfig) -> bytes:
    upstreams = {upstream.name: upstream for upstream in config.upstreams}
    places: list[list[object]] = []
    for place in model.places:
        upstream = upstreams[place.upstream]
        if isinstance(upstream, EngineUpstreamConfig):
            engine = config.engine_of(model)
            places.append(["engine", engine.model, engine.profile])
        elif (serve := upstream.serve) is not None:
            places.append([upstream.kind, serve.model, serve.dtype, serve.quantization, place.model or model.name])
        else:
            places.append([upstream.base_url, place.model or model.name, sorted(upstream.headers.items())])
    apart = [place for index, place in enumerate(places) if place not in places[:index]]  # replicas are alike
    return orjson.dumps([_FORMAT, model.name, model.revision, model.defaults.model_dump(), apart])
